"""Who holds a claim, so that others can tell at once when that worker is dead: host, PID namespace, pid, start time."""

import os
from pathlib import Path

_PROC = Path("/proc")


def this_process() -> str:
    """Return a name for this process that no other process has had or will have, as far as this system can say."""
    return " ".join((_here(), str(os.getpid()), _start_of(os.getpid()) or "-"))


def is_dead(owner: str) -> bool:
    """Return whether the owner is proven dead: named on this host, in this PID namespace, and not there any more.

    Anything that cannot be judged counts as alive; its lease decides. Two containers on one host see each other's
    pids as absent, which is why the namespace must agree; a /proc that hides others' processes proves nothing either.
    """
    parts = owner.split(" ")
    if len(parts) != 4 or parts[3] == "-" or f"{parts[0]} {parts[1]}" != _here() or not parts[2].isdecimal():
        return False
    start = _start_of(int(parts[2]))
    return _is_gone(int(parts[2])) if start is None else start != parts[3]


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _here() -> str:
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink(_PROC / "self/ns/pid")  # noqa: PTH115 - not a path: a name such as pid:[4026531836]
    except OSError:
        return "unknown unknown"
    return f"{boot} {namespace}"


def _start_of(pid: int) -> str | None:
    """Return when the process started, in clock ticks after boot; "dead" for a zombie; None when it cannot be read."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    state, _, rest = text.rpartition(")")[2].strip().partition(" ")
    # A zombie sends nothing any more.
    return "dead" if state in {"Z", "X"} else rest.split(" ")[18]
