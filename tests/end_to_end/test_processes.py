"""Real processes over real sockets: a worker of its own, killed and started again, loses and doubles nothing."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kit import Conversion, Kit
from kit.sandbox import Addresses, Sandbox
from kit.store.overview import Told, told
from tests.support import KEY, make_kit

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")


def environment(folder: Path, vendors: Addresses, **further: str) -> dict[str, str]:
    """Return the variables by which a worker finds the same store and the same vendors."""
    held = Sandbox().credentials
    return {
        **os.environ,
        "KIT_SECRET_KEYS": KEY,
        "KIT_CONSENT": "opt_out",
        "KIT_STORE": f"sqlite:///{folder}/kit.db",
        "KIT_ROKT_ACCOUNT": held.rokt_account,
        "KIT_ROKT_PUBLIC_KEY": held.rokt_public_key,
        "KIT_ROKT_SECRET_KEY": held.rokt_secret_key,
        "KIT_ROKT_BASE_URL": vendors.rokt_url,
        "KIT_ROCKERBOX_ADVERTISER": held.rockerbox_advertiser,
        "KIT_ROCKERBOX_BASE_URL": vendors.rockerbox_url,
        **further,
    }


@contextmanager
def worker(variables: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-m", "kit", "worker"], env=variables)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def producer(folder: Path, vendors: Addresses) -> Kit:
    from tests.support import rockerbox, rokt

    return make_kit(folder, destinations=[rokt(base_url=vendors.rokt_url), rockerbox(base_url=vendors.rockerbox_url)])


def until(true: Callable[[], bool], *, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError("it did not come true in time")
        time.sleep(0.05)


def rows(kit: Kit) -> list[Told]:
    return kit.store.read_sync(lambda connection: told(connection, newest=10_000))


def order(number: int) -> Conversion:
    return Conversion(order_id=f"order-{number}", value="19.90", currency="USD", email=f"jane.{number}@example.com")


def test_a_worker_process_delivers_what_the_shop_reported(tmp_path: Path) -> None:
    """`kit worker` beside the shop, set up by variables alone; SIGTERM ends it cleanly."""
    sandbox = Sandbox()
    with sandbox.serve() as vendors:
        shop = producer(tmp_path, vendors)
        with worker(environment(tmp_path, vendors)) as process:
            for number in range(20):
                shop.sync.report(order(number))
            until(lambda: sandbox.rockerbox.counted == sandbox.rokt.counted == 20)
            until(lambda: all(row.state == "delivered" for row in rows(shop)))

            process.send_signal(signal.SIGTERM)

            assert process.wait(timeout=20) == 0
        shop.store.close()


def test_orders_reported_while_no_worker_runs_wait_for_one(tmp_path: Path) -> None:
    """Nothing is sent, nothing is lost, and the next worker begins with them."""
    sandbox = Sandbox()
    with sandbox.serve() as vendors:
        shop = producer(tmp_path, vendors)
        for number in range(5):
            shop.sync.report(order(number))
        assert {row.state for row in rows(shop)} == {"pending"}

        with worker(environment(tmp_path, vendors)):
            until(lambda: sandbox.rokt.counted == 5)
        shop.store.close()


def test_a_killed_worker_loses_nothing_and_counts_nothing_twice(tmp_path: Path) -> None:
    """SIGKILL in the middle of slow answers: the next worker takes over at once, and every order counts once."""
    sandbox = Sandbox()
    with sandbox.serve() as vendors:
        shop = producer(tmp_path, vendors)
        for number in range(40):
            shop.sync.report(order(number))
        sandbox.rockerbox.answers(delay=0.3, times=None)
        with worker(environment(tmp_path, vendors)) as process:
            until(lambda: sandbox.rockerbox.counted >= 5)
            process.kill()
            process.wait()
        sandbox.rockerbox.clear_faults()

        with worker(environment(tmp_path, vendors)):
            # Far sooner than the dead worker's leases of seventy seconds.
            until(lambda: {row.state for row in rows(shop)} == {"delivered"}, seconds=20)

        assert len(rows(shop)) == 80
        assert (sandbox.rokt.counted, sandbox.rockerbox.counted) == (40, 40)
        # Only what was under way when the worker died was sent again, and each of those once.
        assert len(sandbox.rockerbox.requests) <= 40 + 16
        shop.store.close()


def test_a_retry_survives_a_restart(tmp_path: Path) -> None:
    """The plan of a retry is a row with a time: the worker that comes after keeps it."""
    sandbox = Sandbox()
    with sandbox.serve() as vendors:
        shop = producer(tmp_path, vendors)
        # The first wait may be a moment: nobody can tell how often it is tried before the kill.
        sandbox.rokt.answers(503, times=None)
        shop.sync.report(order(1))
        with worker(environment(tmp_path, vendors)) as process:
            until(lambda: len(sandbox.rokt.requests) >= 1)
            until(lambda: any(row.destination == "rokt" and row.state == "pending" for row in rows(shop)))
            process.kill()
            process.wait()

        sandbox.rokt.clear_faults()
        with worker(environment(tmp_path, vendors)):
            until(lambda: sandbox.rokt.counted == 1)

        assert len(sandbox.rokt.requests) > 1
        assert len({received.body for received in sandbox.rokt.requests}) == 1
        shop.store.close()


def test_shadow_needs_no_token_and_sends_nothing(tmp_path: Path) -> None:
    """KIT_MODE=shadow for all: staging builds and records every payload."""
    sandbox = Sandbox()
    with sandbox.serve() as vendors:
        shop = producer(tmp_path, vendors)
        shop.sync.report(order(1))
        bare = {"KIT_ROKT_PUBLIC_KEY": "", "KIT_ROKT_SECRET_KEY": "", "KIT_MODE": "shadow"}

        with worker(environment(tmp_path, vendors, **bare)):
            until(lambda: {(row.state, row.reason) for row in rows(shop)} == {("skipped", "shadow")})

        assert all(row.payload for row in rows(shop))
        assert sandbox.rokt.requests == sandbox.rockerbox.requests == ()
        shop.store.close()
