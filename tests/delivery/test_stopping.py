"""How a worker ends: what is under way ends or is said to be unknown, what waits goes back; twice asked, at once."""

import asyncio
import signal
from datetime import timedelta
from pathlib import Path

import pytest

from kit.destinations import AdRoll, Rockerbox
from kit.sandbox import Sandbox
from kit.store.overview import told
from tests.delivery.world import FrozenSteady, worker_of, world
from tests.end_to_end.test_processes import environment, order, producer, until
from tests.end_to_end.test_processes import worker as worker_process
from tests.support import eventually


@pytest.mark.usefixtures("both_engines")
async def test_a_hundred_in_flight_end_or_go_back(tmp_path: Path) -> None:
    """A stop over a hundred requests to a vendor that answers: each is delivered or pending, none in doubt."""
    async with world(tmp_path, Rockerbox, rockerbox={"max_in_flight": 100}) as it:
        worker = worker_of(it, FrozenSteady())
        await it.order("first")
        await worker.drain()
        it.sandbox.rockerbox.answers(delay=0.5, times=None)
        for number in range(150):
            await it.order(f"order-{number}")
        running = asyncio.create_task(worker.run())
        await eventually(lambda: len(it.sandbox.rockerbox.requests) >= 101)

        worker.stop()
        await running

        found = await it.kit.store.read(lambda connection: told(connection, newest=1_000))
        assert {(row.state, row.attempts) for row in found} <= {("delivered", 1), ("pending", 0)}
        assert [row.state for row in found].count("delivered") == it.sandbox.rockerbox.counted >= 101
        assert len(it.sandbox.rockerbox.requests) == it.sandbox.rockerbox.counted


@pytest.mark.usefixtures("both_engines")
async def test_what_waits_goes_back_though_the_vendor_never_answers(tmp_path: Path) -> None:
    """The time to drain is over: what was under way is unknown and says so, the rest was handed back before."""
    async with world(tmp_path, AdRoll) as it:
        worker = worker_of(it, FrozenSteady(), drain=timedelta(seconds=0.5))
        await it.order("first")
        await worker.drain()
        it.sandbox.adroll.answers(delay=60, times=None)
        for number in range(20):
            await it.order(f"order-{number}")
        running = asyncio.create_task(worker.run())
        await eventually(lambda: len(it.sandbox.adroll.requests) == 5)

        worker.stop()
        await running

        found = [(row.state, row.attempts) for row in await it.rows()]
        assert sorted(found) == [("delivered", 1)] + [("held", 1)] * 4 + [("pending", 0)] * 16


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="sends signals and looks at /proc")
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_process_at_once(tmp_path: Path, second: signal.Signals) -> None:
    """The first waits for a vendor that does not answer; the second does not."""
    sandbox = Sandbox()
    with sandbox.serve() as vendors:
        shop = producer(tmp_path, vendors)
        sandbox.rockerbox.answers(delay=60, times=None)
        shop.sync.report(order(1))
        with worker_process(environment(tmp_path, vendors)) as process:
            until(lambda: len(sandbox.rockerbox.requests) == 1)
            process.send_signal(signal.SIGTERM)
            until(lambda: _ends_by(process.pid, second))

            process.send_signal(second)

            assert process.wait(timeout=10) == -second
        shop.store.close()


def _ends_by(pid: int, number: int) -> bool:
    """Return whether the signal is left to the system by now."""
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
    )
    return not int(status["SigCgt"], 16) >> (number - 1) & 1


@pytest.mark.usefixtures("both_engines")
async def test_what_waits_for_its_turn_in_time_goes_back_at_once(tmp_path: Path) -> None:
    """One request an hour, five orders: a stop waits for no turn, and no order is in doubt."""
    async with world(tmp_path, Rockerbox, rockerbox={"requests_per_second": 1 / 3600}) as it:
        for number in range(5):
            await it.order(f"order-{number}")
        worker = worker_of(it, FrozenSteady(), drain=timedelta(hours=1))
        running = asyncio.create_task(worker.run())
        await eventually(lambda: it.sandbox.rockerbox.counted == 1)

        worker.stop()
        async with asyncio.timeout(30):
            await running

        found = sorted((row.state, row.attempts) for row in await it.rows())
        assert found == [("delivered", 1)] + [("pending", 0)] * 4
