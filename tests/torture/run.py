"""One run: begin, disturb, be quiet, drain, probe, and hand over all that was noted."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from random import Random
from typing import Any

from sqlalchemy import func, select

from kit.errors import StoreUnavailable
from kit.store import Store
from kit.store.tables import deliveries
from tests.torture.monkey import Crew
from tests.torture.notes import Disturbance, Ledger
from tests.torture.oracle import be_oracle, digest
from tests.torture.orders import Order, order_of, payloads_of
from tests.torture.plan import DRAIN, FREEZE, PROBE, Plan
from tests.torture.processes import a_kit, be_producer, be_worker, report_order
from tests.torture.vendors import traced_vendors

#: Between two blows, so that a process that was started again gets to work.
_REST = 0.25
#: A blow waits at most so long for the work to come along.
_PATIENCE = 4.0
#: How many events the slowest vendor may be behind the reports.
_BACKLOG = 1500
#: How many parts of the orders may be out at a time: producers always have something to do while one is struck.
_AHEAD = 4
_LOOK = 0.02

Blow = Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a run has to tell. `drained` and `probed` are seconds, None when it took too long."""

    ledger: Ledger
    blows: tuple[Disturbance, ...]
    unasked: tuple[str, ...]
    exits: tuple[int | None, ...]
    lasted: float
    drained: float | None
    probed: float | None
    log: str


class Oracle:
    """The driver's end of the oracle."""

    def __init__(self, control: Connection) -> None:
        self._control = control

    def ask(self, question: str, argument: Any = None) -> Any:
        self._control.send((question, argument))
        if not self._control.poll(60):
            raise TimeoutError(f"the oracle does not answer: {question}")
        return self._control.recv()


def run(plan: Plan, store: str, folder: Path, *, blows: dict[str, Blow] | None = None) -> Told:
    """Run the plan on this store. `blows` are further disturbances by name, such as a database's restart."""
    begun = time.monotonic()
    context = get_context("forkserver")
    context.set_forkserver_preload(["tests.torture.processes", "tests.torture.oracle"])
    Store(store).migrate()
    log = folder / "kit.log"
    with _oracle(context, plan) as (oracle, url, port):
        starts: dict[str, tuple[Callable[..., None], Sequence[object]]] = {
            "producer": (be_producer, (plan, store, url, port, log)),
            "worker": (be_worker, (store, url, log)),
        }
        with _crew(Crew(context, starts)) as crew:
            _disturb(plan, crew, oracle, blows or {})
            _quieten(crew, oracle)
            drained = _timed(DRAIN.total_seconds(), lambda: _is_drained(store), crew)
            probed, acked = _probe(plan, store, url, oracle, crew)
            # What of it no vendor is to see, as a delivery without an identifier, is settled at its lane's next look.
            _timed(PROBE.total_seconds(), lambda: _is_drained(store), crew)
            exits = tuple(crew.stop(20))
            ledger: Ledger = oracle.ask("ledger")
            ledger.acked |= acked
    return Told(
        ledger=ledger,
        blows=tuple(crew.blows),
        unasked=tuple(crew.unasked),
        exits=exits,
        lasted=time.monotonic() - begun,
        drained=drained,
        probed=probed,
        log=log.read_text() if log.exists() else "",
    )


@contextmanager
def _oracle(context: ForkServerContext, plan: Plan) -> Iterator[tuple[Oracle, str, int]]:
    """Yield the driver's end, the vendors' base URL and the desk's port."""
    ours, theirs = context.Pipe()
    process = context.Process(target=be_oracle, args=(plan, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        url, port = ours.recv()
        yield Oracle(ours), url, port
        ours.send(("stop", None))
        process.join(10)
    finally:
        process.kill()
        process.join(5)
        ours.close()


@contextmanager
def _crew(crew: Crew) -> Iterator[Crew]:
    try:
        crew.begin()
        yield crew
    finally:
        crew.end()


def _disturb(plan: Plan, crew: Crew, oracle: Oracle, blows: dict[str, Blow]) -> None:
    """Let the producers have the next part of the orders, and strike in the middle of it; and so on to the end."""
    dice = Random(f"{plan.seed} monkey")
    actions = ["kill"] * plan.kills + ["freeze"] * plan.freezes + [name for name in blows for _ in range(plan.pg_kills)]
    dice.shuffle(actions)
    share = plan.number / max(len(actions), 1)
    for place in range(len(actions)):
        oracle.ask("allow", round((place + _AHEAD) * share))
        _await_work(crew, oracle, (place + 0.5) * share)
        while not _strike(action := _next(actions, crew), place, dice, crew, oracle, blows):
            crew.tend()
            time.sleep(_LOOK)
        actions.remove(action)
    oracle.ask("allow", plan.number)


def _next(actions: list[str], crew: Crew) -> str:
    """Return what comes next, or what can be done already when enough are frozen."""
    return next((action for action in actions if action != "freeze" or crew.may_freeze()), actions[0])


def _await_work(crew: Crew, oracle: Oracle, wanted: float) -> None:
    rested, ends = time.monotonic() + _REST, time.monotonic() + _PATIENCE
    while time.monotonic() < ends:
        crew.tend()
        _, acked, seen = oracle.ask("progress")
        if acked >= wanted and seen >= wanted - _BACKLOG and time.monotonic() > rested:
            return
        time.sleep(_LOOK)


def _strike(action: str, place: int, dice: Random, crew: Crew, oracle: Oracle, blows: dict[str, Blow]) -> bool:
    """Do it, if it can be done now. Every third blow is aimed at a worker that waits for an answer at that moment."""
    if action in blows:
        now = time.time()
        blows[action]()
        crew.blows.append(Disturbance(what=action, role="store", pid=0, at=now, ended=time.time(), aimed=False))
        return True
    if action == "freeze" and not crew.may_freeze():
        return False
    aimed = crew.by_pid(oracle.ask("trap", dice.choice(("adroll", "rokt", "rockerbox")))) if place % 3 == 0 else None
    member = aimed or crew.victim(dice)
    if member is None:
        return False
    if action == "kill":
        crew.kill(member, aimed=aimed is not None)
    else:
        crew.freeze(member, aimed=aimed is not None)
    return True


def _quieten(crew: Crew, oracle: Oracle) -> None:
    """Thaw everyone in their time, let the producers finish, and end the faults."""
    _timed(FREEZE.total_seconds() + 5, lambda: not crew.frozen, crew)
    _timed(60, lambda: not crew.has("producer"), crew)
    oracle.ask("quiet")


def _is_drained(store: str) -> bool:
    asked = select(func.count()).where(deliveries.c.state.in_(["pending", "claimed"]))
    reader = Store(store)
    try:
        return reader.read_sync(lambda connection: connection.scalar(asked)) == 0
    except StoreUnavailable:
        return False
    finally:
        reader.close()


def _probe(plan: Plan, store: str, url: str, oracle: Oracle, crew: Crew) -> tuple[float | None, dict[str, list[bool]]]:
    """Report one more order and await it at every vendor."""
    before = len(oracle.ask("ledger").requests)
    order = order_of(plan, oracle.ask("probe"))
    expected = {digest(body) for body in payloads_of(order, traced_vendors(url)).values()}
    acked = asyncio.run(_report(store, url, order))
    return _timed(PROBE.total_seconds(), lambda: expected <= set(oracle.ask("seen", before)), crew), acked


async def _report(store: str, url: str, order: Order) -> dict[str, list[bool]]:
    with a_kit(store, url) as kit:
        return {each.event_id: [each.new] async for each in report_order(kit, order)}


def _timed(seconds: float, true: Callable[[], bool], crew: Crew) -> float | None:
    """Wait until it is so; return after how many seconds, None when it took longer."""
    begun = time.monotonic()
    while time.monotonic() < begun + seconds:
        crew.tend()
        if true():
            return time.monotonic() - begun
        time.sleep(0.1)
    return None
