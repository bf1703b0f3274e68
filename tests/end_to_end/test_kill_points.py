"""SIGKILL at every named point of a delivery's way, again and again: a second process goes on, as faults.md P01–P09.

KIT_KILLS=20 kills twenty times at each point of each engine.
"""

import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, inspect, select, text, update

from kit import Kit
from kit.sandbox import Sandbox, Vendor
from kit.store.tables import attempts, deliveries, events, metadata
from tests.end_to_end.test_processes import until
from tests.faults.killed import When, begun, delivers, ended, kit_of, migrates, prunes, replays, report, reports
from tests.postgres import Server
from tests.support import STORES

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="tells by /proc that a worker is dead"),
    pytest.mark.usefixtures("both_engines"),
]

KILLS = int(os.environ.get("KIT_KILLS", "3"))
KILLED = -signal.SIGKILL


@dataclass
class Scene:
    """A store, three vendors that count, and a kit of the test's own to look at what became of it."""

    store: str
    url: str
    sandbox: Sandbox
    kit: Kit

    @property
    def vendors(self) -> tuple[Vendor, Vendor, Vendor]:
        return self.sandbox.vendors

    def goes_on(self) -> None:
        """Let a second process take over and deliver."""
        assert ended(*begun(delivers, self.store, self.url, None)) == (0, [])

    def row(self, number: int, destination: str) -> Any:
        query = (
            select(deliveries)
            .join(events, events.c.id == deliveries.c.event)
            .where(events.c.order_id == f"order-{number}", deliveries.c.destination == destination)
        )
        return self.kit.store.read_sync(lambda connection: connection.execute(query).one())

    def requests(self, vendor: Vendor, number: int) -> list[bytes]:
        """Return what this order's requests carried."""
        wanted = f'order-{number}"'.encode()
        return [received.text for received in vendor.requests if wanted in received.text]


@pytest.fixture
def scene(tmp_path: Path, both_engines: None) -> Iterator[Scene]:
    store = STORES.get(tmp_path, f"sqlite:///{tmp_path}/kit.db")
    sandbox = Sandbox()
    with sandbox.serve() as vendors:
        kit = kit_of(store, vendors.url)
        try:
            yield Scene(store, vendors.url, sandbox, kit)
        finally:
            kit.store.close()


# ---------------------------------------------------------------- report


@pytest.mark.parametrize(("when", "stored"), [("before commit", False), ("after commit", True)])
def test_a_report(scene: Scene, when: When, stored: bool) -> None:
    """P01, P02: without a reply nothing is known; told again the order is one event, sent once to each vendor."""
    for number in range(KILLS):
        code, told = ended(*begun(reports, scene.store, scene.url, (when, 1), [number]))
        assert (code, told) == (KILLED, [])

        assert ended(*begun(reports, scene.store, scene.url, None, [number])) == (0, [(number, not stored)])

    scene.goes_on()
    for number in range(KILLS):
        rows = [scene.row(number, name) for name in ("adroll", "rokt", "rockerbox")]
        assert [(row.state, row.attempts) for row in rows] == [("delivered", 1)] * 3
    assert [vendor.counted for vendor in scene.vendors] == [KILLS] * 3


def test_a_report_among_many(scene: Scene) -> None:
    """P02: killed in the middle of a row of orders, what was answered is stored, and told again it is no new order."""
    for kill in range(KILLS):
        numbers = range(10 * kill, 10 * kill + 5)
        code, told = ended(*begun(reports, scene.store, scene.url, ("before commit", 3), numbers))
        assert (code, told) == (KILLED, [(number, True) for number in numbers[:2]])

        answers = [(number, number not in numbers[:2]) for number in numbers]
        assert ended(*begun(reports, scene.store, scene.url, None, numbers)) == (0, answers)


# ---------------------------------------------------------------- deliver

#: Where a worker dies; and of the delivery that it was at: attempts, crashes and requests where the vendor tells a
#: repeat, and where it does not.
_HARMLESS = (("delivered", 1, 0, 1), ("delivered", 1, 0, 1))
_BEFORE_A_BYTE = (("delivered", 2, 1, 1), ("held", 1, 1, 0))
_IN_DOUBT = (("delivered", 2, 1, 2), ("held", 1, 1, 1))
#: A claim is asked for twice at each vendor: with something due, and with nothing left.
_POINTS: dict[str, tuple[Any, tuple[Any, Any]]] = {
    "claim before its commit": (lambda place: ("claim", "before commit", 2 * place + 1), _HARMLESS),
    "claim after its commit": (lambda place: ("claim", "after commit", 2 * place + 1), _HARMLESS),
    "open before its commit": (lambda place: ("open_attempts", "before commit", place + 1), _HARMLESS),
    "open after its commit": (lambda place: ("open_attempts", "after commit", place + 1), _BEFORE_A_BYTE),
    "before the first byte": (lambda place: place + 1, _BEFORE_A_BYTE),
    "after the answer, before its commit": (lambda place: ("close", "before commit", place + 1), _IN_DOUBT),
    "after the answer was written down": (lambda place: ("close", "after commit", place + 1), _HARMLESS),
}


@pytest.mark.parametrize("point", _POINTS)
def test_a_worker(scene: Scene, point: str) -> None:
    """P03, P04, P06: what was not begun is sent once; what may have been sent is repeated by its key, or held."""
    at, (where_repeats_are_told, where_not) = _POINTS[point]
    for number in range(KILLS):
        report(scene.kit, number)
        place = number % 3
        code, _ = ended(*begun(delivers, scene.store, scene.url, at(place)))
        assert code == KILLED

        scene.goes_on()

        for each, vendor in enumerate(scene.vendors):
            expected = ("delivered", 1, 0, 1)
            if each == place:
                expected = where_not if vendor.name == "adroll" else where_repeats_are_told
            row, bodies = scene.row(number, vendor.name), scene.requests(vendor, number)
            assert (row.state, row.attempts, row.crashes, len(bodies)) == expected
            assert len(set(bodies)) <= 1
    _hold(scene, counted_less=point in {"open after its commit", "before the first byte"})


def test_a_worker_between_the_bytes_and_the_answer(scene: Scene) -> None:
    """P05: the vendor has the request and has not answered; Rokt and Rockerbox get it once more, AdRoll's is held."""
    for number in range(KILLS):
        report(scene.kit, number)
        vendor = scene.vendors[number % 3]
        vendor.answers(delay=60, counts=True)
        process, pipe = begun(delivers, scene.store, scene.url, None)
        try:
            until(lambda vendor=vendor, number=number: len(scene.requests(vendor, number)) == 1)  # type: ignore[misc]
        finally:
            process.kill()
        assert ended(process, pipe)[0] == KILLED

        scene.goes_on()

        for each in scene.vendors:
            row, bodies = scene.row(number, each.name), scene.requests(each, number)
            expected = ("delivered", 1, 0, 1)
            if each is vendor:
                expected = _IN_DOUBT[vendor.name == "adroll"]
            assert (row.state, row.attempts, row.crashes, len(bodies)) == expected
            assert len(set(bodies)) <= 1
    _hold(scene)


def _hold(scene: Scene, *, counted_less: bool = False) -> None:
    """No order counted twice anywhere, none lost where a repeat may be sent; every attempt has its outcome."""
    for vendor in scene.vendors:
        assert set(vendor.orders.values()) <= {1}
        assert vendor.refusals == ()
        if not (counted_less and vendor.name == "adroll"):
            assert vendor.counted == KILLS
    found = scene.kit.store.read_sync(lambda connection: connection.scalars(select(attempts.c.outcome)).all())
    assert "open" not in found


# ---------------------------------------------------------------- keep house


@contextmanager
def _empty(engine: str, folder: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield the URL of a store without tables."""
    if engine == "sqlite":
        yield f"sqlite:///{folder}/kit.db"
        return
    server: Server = request.getfixturevalue("postgres")
    name = f"kit_empty_{os.getpid()}"
    admin = create_engine(server.url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
        yield server.url.set(database=name, drivername="postgresql").render_as_string(hide_password=False)
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


def test_a_migration(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """P09: killed at any of its statements it is rolled back, and the next process finishes it."""
    engine = "postgresql" if tmp_path in STORES else "sqlite"
    whole = tmp_path / "whole"
    whole.mkdir()
    with _empty(engine, whole, request) as url:
        _, (statements,) = ended(*begun(migrates, url, None))
    for kill in range(KILLS):
        folder = tmp_path / str(kill)
        folder.mkdir()
        with _empty(engine, folder, request) as url:
            # From the first statement to the commit.
            nth = 1 + kill * (statements - 1) // max(KILLS - 1, 1)
            assert ended(*begun(migrates, url, nth)) == (KILLED, [])

            assert ended(*begun(migrates, url, None))[0] == 0

            looked = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
            assert set(inspect(looked).get_table_names()) == {*metadata.tables, "alembic_version"}
            looked.dispose()


#: Within a step: before its first statement, between two, and around its commit.
_STEPS: list[Any] = [("before commit", 1), ("after commit", 1), 4, 6, 8, ("before commit", 2), ("after commit", 2)]


def test_a_step_of_retention(scene: Scene) -> None:
    """P09: no delivery without its event, no attempt without its deliveries; the next one removes what is left."""
    for kill in range(KILLS):
        numbers = range(10 * kill, 10 * kill + 3)
        for number in numbers:
            report(scene.kit, number)
        scene.goes_on()
        code, _ = ended(*begun(prunes, scene.store, 31, _STEPS[kill % len(_STEPS)]))
        assert code == KILLED
        _nobody_is_left_alone(scene)

        assert ended(*begun(prunes, scene.store, 31, None))[0] == 0

        assert _count(scene, deliveries) == _count(scene, attempts) == 0
    assert _count(scene, events) == 3 * KILLS


def _nobody_is_left_alone(scene: Scene) -> None:
    """No delivery lacks its event or its attempt, no attempt its deliveries, and a buyer is known while one is left."""
    found = scene.kit.store.read_sync(lambda connection: connection.execute(select(deliveries)).all())
    tried = scene.kit.store.read_sync(lambda connection: set(connection.scalars(select(attempts.c.id))))
    known = scene.kit.store.read_sync(lambda connection: connection.execute(select(events)).all())
    assert {row.attempt for row in found} == tried
    waiting = {row.event for row in found}
    assert all(("jane" in row.conversion) == (row.id in waiting) for row in known)


def _count(scene: Scene, table: Any) -> int:
    return len(scene.kit.store.read_sync(lambda connection: connection.execute(select(table)).all()))


@pytest.mark.parametrize("when", ["before commit", "after commit"])
def test_a_replay(scene: Scene, when: When) -> None:
    """P09: a replay that was interrupted is asked for again and puts back what is left; each is sent once more."""
    for number in range(7):
        report(scene.kit, number)
    for kill in range(KILLS):
        scene.kit.store.write_sync(_all_dead, None)
        nth = 1 + kill % 10
        code, told = ended(*begun(replays, scene.store, (when, nth)))
        assert (code, told) == (KILLED, [])
        done = 2 * (nth if when == "after commit" else nth - 1)
        assert _states(scene) == {"pending": done, "dead": 21 - done} if done else {"dead": 21}

        assert ended(*begun(replays, scene.store, None)) == (0, [21 - done])

        assert _states(scene) == {"pending": 21}
    scene.goes_on()
    assert [vendor.counted for vendor in scene.vendors] == [7] * 3


def _all_dead(connection: Any, asked: Any) -> list[None]:
    connection.execute(update(deliveries).values(state="dead", reason="rejected"))
    return [None] * len(asked)


def _states(scene: Scene) -> Counter[str]:
    query = select(deliveries.c.state)
    return Counter(scene.kit.store.read_sync(lambda connection: connection.scalars(query).all()))
