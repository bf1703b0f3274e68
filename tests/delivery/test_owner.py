"""Proof of death: a claim's owner is dead only when this host and PID namespace can say so."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from kit.delivery.owner import is_dead, this_process

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


@pytest.fixture
def other() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another process and the name by which it owns claims."""
    script = (
        "import time; from kit.delivery.owner import this_process; print(this_process(), flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield process, process.stdout.readline().strip()
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_living_process_is_not_dead(other: tuple[subprocess.Popen[str], str]) -> None:
    """Nor is this one."""
    assert not is_dead(other[1])
    assert not is_dead(this_process())


def test_a_killed_process_is_dead_even_before_its_parent_asks(other: tuple[subprocess.Popen[str], str]) -> None:
    """A zombie sends nothing any more."""
    process, name = other
    process.kill()

    process.wait()

    assert is_dead(name)


def test_a_pid_that_another_program_has_now_is_dead(other: tuple[subprocess.Popen[str], str]) -> None:
    """The start time tells them apart (P17)."""
    boot, namespace, pid, start = other[1].split(" ")

    assert is_dead(f"{boot} {namespace} {pid} {int(start) - 1}")


@pytest.mark.parametrize("place", [0, 1])
def test_another_host_or_namespace_cannot_be_judged(other: tuple[subprocess.Popen[str], str], place: int) -> None:
    """Two containers see each other's pids as absent: their leases decide."""
    process, name = other
    process.kill()
    process.wait()
    parts = name.split(" ")
    parts[place] = "elsewhere"

    assert not is_dead(" ".join(parts))


@pytest.mark.parametrize("name", ["", "pid 3", "a b c d", "a b 1 -", "unknown unknown 1 -"])
def test_a_name_that_is_none_of_ours_cannot_be_judged(name: str) -> None:
    """An older version's owners lapse by their leases."""
    assert not is_dead(name)
