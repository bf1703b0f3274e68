"""Several machines on one PostgreSQL: one freezes, is cut off or suspended past its leases, and comes back."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection as Pipe
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, func, select

from kit import Kit
from kit.delivery import owner
from kit.destinations import base
from kit.sandbox import Addresses, Sandbox, Vendor
from kit.store.tables import deliveries, gates
from tests.end_to_end.test_processes import until
from tests.faults.killed import begun, order_of
from tests.faults.proxy import before
from tests.postgres import Server
from tests.support import KEY, make_kit, rockerbox
from tests.torture.shortened import shorten
from tests.torture.vendors import HEADER, TracedRockerbox, read_header

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="freezes processes")

ORDERS = 40


def works_on(pipe: Pipe, host: str, store: str, url: str) -> None:
    """Deliver for ever, as the worker of that host: nobody elsewhere can tell by /proc whether it lives."""
    owner._here = lambda: f"{host} pid:[1]"
    pipe.send("ready")
    work(store, url)


def work(store: str, url: str) -> None:
    shorten()
    # A line of the test's own is as good as the loopback.
    base.is_loopback = lambda host: True
    kit = Kit(
        secret_keys=[KEY],
        consent="opt_out",
        store=store,
        destinations=[TracedRockerbox(advertiser="sandbox-advertiser", base_url=Addresses(url).rockerbox_url)],
        insecure_cookies=True,
        worker=False,
    )

    async def deliver() -> None:
        await kit.ready()
        await kit.worker.run()

    asyncio.run(deliver())


@contextmanager
def machine(host: str, store: str, url: str) -> Iterator[ForkServerProcess]:
    process, pipe = begun(works_on, host, store, url)
    try:
        assert pipe.recv() == "ready"
        yield process
    finally:
        process.kill()
        process.join()
        process.close()
        pipe.close()


def left(engine: Engine) -> int:
    query = select(func.count()).select_from(deliveries).where(deliveries.c.state != "delivered")
    with engine.connect() as connection:
        return connection.execute(query).scalar_one()


def stale(vendor: Vendor) -> list[tuple[int, int]]:
    """Return the requests of an earlier attempt that came after a later one: what a worker sent that lost its lease."""
    latest: dict[int, int] = {}
    found = []
    for received in vendor.requests:
        for delivery, before_it in read_header(received.headers[HEADER])[1]:
            if before_it < latest.get(delivery, -1):
                found.append((delivery, before_it))
            latest[delivery] = max(before_it, latest.get(delivery, -1))
    return found


@pytest.mark.parametrize("how", ["frozen", "cut off from the database"])
def test_a_machine_that_is_away_past_its_leases_sends_nothing_stale(postgres: Server, how: str) -> None:
    """P10, P11, C03: another takes over when the leases end; back again, the first sends nothing that it lost."""
    sandbox = Sandbox()
    with postgres.database() as store, before(store) as (proxy, through), sandbox.serve() as vendors:
        engine = create_engine(store.replace("postgresql:", "postgresql+psycopg:"))
        shop = make_kit(Path(), store=store, destinations=[rockerbox(base_url=vendors.rockerbox_url)])
        for number in range(ORDERS):
            shop.sync.report(order_of(number))
        shop.store.close()
        sandbox.rockerbox.answers(delay=0.05, times=None)
        with machine("host-a", through, vendors.url) as first:
            until(lambda: sandbox.rockerbox.counted >= 5)
            pid = first.pid
            assert pid is not None
            proxy.silent = "cut off" in how
            if "frozen" in how:
                os.kill(pid, signal.SIGSTOP)
            with machine("host-b", store, vendors.url):
                until(lambda: left(engine) == 0, seconds=60)
                done = len(sandbox.rockerbox.requests)
                proxy.silent = False
                if "frozen" in how:
                    os.kill(pid, signal.SIGCONT)
                # Back again, it works like any other.
                shop = make_kit(Path(), store=store, destinations=[rockerbox(base_url=vendors.rockerbox_url)])
                for number in range(ORDERS, ORDERS + 10):
                    shop.sync.report(order_of(number))
                shop.store.close()
                until(lambda: left(engine) == 0, seconds=60)
        engine.dispose()
    assert stale(sandbox.rockerbox) == []
    assert sandbox.rockerbox.counted == ORDERS + 10
    # What came after its return is the ten new orders, and nothing of the old ones.
    assert len(sandbox.rockerbox.requests) == done + 10
    # Only what was under way when it went away was sent again.
    assert done <= ORDERS + rockerbox().max_in_flight


# ---------------------------------------------------------------- networks of their own


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=10)


@pytest.fixture
def network() -> Iterator[str]:
    """A network namespace whose one line to this machine, 10.203.7.1, can be cut."""
    name = f"kit{os.getpid() % 100_000}"
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("needs root and ip")
    try:
        _ip("netns", "add", name)
    except subprocess.CalledProcessError:
        pytest.skip("network namespaces are not allowed here")
    try:
        _ip("link", "add", f"{name}o", "type", "veth", "peer", "name", f"{name}i", "netns", name)
        _ip("addr", "add", "10.203.7.1/30", "dev", f"{name}o")
        _ip("link", "set", f"{name}o", "up")
        for words in (["addr", "add", "10.203.7.2/30", "dev", f"{name}i"], ["link", "set", f"{name}i", "up"]):
            _ip("-n", name, *words)
        yield name
    except subprocess.CalledProcessError:
        pytest.skip("veth pairs are not allowed here")
    finally:
        _ip("netns", "delete", name)


@contextmanager
def machine_in(network: str, store: str, url: str) -> Iterator[None]:
    script = f"from tests.faults.test_machines import work; work({store!r}, {url!r})"
    process = subprocess.Popen(["ip", "netns", "exec", network, sys.executable, "-c", script])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def test_a_line_to_the_vendor_that_is_cut_and_mended(postgres: Server, network: str) -> None:
    """N02: packets vanish with requests under way; mended, all is delivered, each order counted once."""
    if "host" not in postgres.url.query:
        pytest.skip("needs a PostgreSQL on a Unix socket, which is reached from every network")
    sandbox = Sandbox()
    with postgres.database() as store, sandbox.serve(host="10.203.7.1") as vendors:
        engine = create_engine(store.replace("postgresql:", "postgresql+psycopg:"))
        shop = make_kit(Path(), store=store, destinations=[rockerbox()])
        for number in range(ORDERS):
            shop.sync.report(order_of(number))
        shop.store.close()
        sandbox.rockerbox.answers(delay=0.1, times=None)
        with machine_in(network, store, vendors.url):
            until(lambda: sandbox.rockerbox.counted >= 5)
            _ip("link", "set", f"{network}o", "down")
            until(lambda: gate(engine) in {"failing", "unreachable"})
            before_it = left(engine)
            _ip("link", "set", f"{network}o", "up")
            until(lambda: left(engine) == 0, seconds=60)
        tried = engine.connect()
        most = tried.scalar(select(func.max(deliveries.c.attempts)))
        tried.close()
        engine.dispose()
    assert before_it > 0
    assert set(sandbox.rockerbox.orders.values()) == {1}
    assert sandbox.rockerbox.counted == ORDERS
    # Once in doubt, and perhaps once more by a probe; what was not sent counts for nothing.
    assert most <= 3


def gate(engine: Engine) -> str | None:
    with engine.connect() as connection:
        return connection.scalar(select(gates.c.state))
