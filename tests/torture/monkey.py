"""The monkey: kills, freezes and restarts the run's processes, from the run's seed, and notes each blow."""

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext, ForkServerProcess
from random import Random

from tests.torture.notes import Disturbance
from tests.torture.plan import FREEZE, PRODUCERS, WORKERS

#: A process that was thawed is let be for so long: what it does with its lost leases is what a freeze is for.
_GRACE = 1.0
_MOST_FROZEN = 2


@dataclass(slots=True)
class Member:
    role: str
    process: ForkServerProcess
    frozen_at: float | None = None
    aimed: bool = False
    thawed_at: float = 0.0

    @property
    def pid(self) -> int:
        return self.process.pid or 0


@dataclass(slots=True)
class Crew:
    """The processes of a run. `starts` has what each role runs; a producer that ends by itself has finished."""

    context: ForkServerContext
    starts: Mapping[str, tuple[Callable[..., None], Sequence[object]]]
    members: list[Member] = field(default_factory=list)
    blows: list[Disturbance] = field(default_factory=list)
    unasked: list[str] = field(default_factory=list)

    def begin(self) -> None:
        for role in ["producer"] * PRODUCERS + ["worker"] * WORKERS:
            self._start(role)

    def _start(self, role: str) -> None:
        target, arguments = self.starts[role]
        process = self.context.Process(target=target, args=arguments, daemon=True)
        process.start()
        self.members.append(Member(role, process))

    def tend(self) -> None:
        """Thaw whose time it is, and start again what has ended."""
        for member in list(self.members):
            if member.frozen_at is not None and time.time() >= member.frozen_at + FREEZE.total_seconds():
                self.thaw(member)
            if member.process.exitcode is not None:
                self._replace(member)

    def _replace(self, member: Member) -> None:
        self.members.remove(member)
        code = member.process.exitcode
        if member.role == "producer" and code == 0:
            return
        if not any(blow.pid == member.pid and blow.what == "kill" for blow in self.blows):
            self.unasked.append(f"{member.role} {member.pid} ended by itself with {code}")
        self._start(member.role)

    @property
    def frozen(self) -> int:
        return sum(member.frozen_at is not None for member in self.members)

    def may_freeze(self) -> bool:
        return self.frozen < _MOST_FROZEN

    def victims(self, role: str | None = None) -> list[Member]:
        """Return who may be hit now."""
        settled = time.time() - _GRACE
        return [
            member
            for member in self.members
            if member.frozen_at is None
            and member.thawed_at < settled
            and role in {None, member.role}
            # A producer that has no more orders ends by itself.
            and member.process.is_alive()
        ]

    def victim(self, dice: Random) -> Member | None:
        """Choose one, a worker three times of four."""
        role = "worker" if dice.random() < 0.75 else "producer"
        found = self.victims(role) or self.victims()
        return dice.choice(found) if found else None

    def by_pid(self, pid: int) -> Member | None:
        return next((member for member in self.victims("worker") if member.pid == pid), None)

    def kill(self, member: Member, *, aimed: bool) -> None:
        now = time.time()
        self.blows.append(Disturbance(what="kill", role=member.role, pid=member.pid, at=now, ended=now, aimed=aimed))
        os.kill(member.pid, signal.SIGKILL)
        member.process.join(5)
        self.tend()

    def freeze(self, member: Member, *, aimed: bool) -> None:
        member.frozen_at, member.aimed = time.time(), aimed
        os.kill(member.pid, signal.SIGSTOP)

    def thaw(self, member: Member) -> None:
        if member.frozen_at is None:
            return
        began, member.frozen_at, member.thawed_at = member.frozen_at, None, time.time()
        self.blows.append(
            Disturbance(
                what="freeze", role=member.role, pid=member.pid, at=began, ended=member.thawed_at, aimed=member.aimed
            )
        )
        os.kill(member.pid, signal.SIGCONT)

    def has(self, role: str) -> bool:
        return any(member.role == role for member in self.members)

    def stop(self, seconds: float) -> list[int | None]:
        """End the workers by SIGTERM; return their exit codes, None for one that did not end in time."""
        for member in self.members:
            os.kill(member.pid, signal.SIGTERM)
        ends = time.monotonic() + seconds
        for member in self.members:
            member.process.join(max(ends - time.monotonic(), 0))
        return [member.process.exitcode for member in self.members]

    def end(self) -> None:
        """Leave nobody behind."""
        for member in self.members:
            member.process.kill()
            member.process.join(5)
