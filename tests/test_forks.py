"""A process that forks while the kit works in it: `gunicorn --preload`, multiprocessing."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

_HEAD = """
import os, sys, threading, traceback, warnings
from kit import Conversion
from tests.support import make_kit
from datetime import timedelta
from pathlib import Path
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of any fork beside threads
# Not about time: a machine that is busy with other tests may take long.
kit = make_kit(Path(sys.argv[1]), store_timeout=timedelta(seconds=30))

def report(name):
    return kit.sync.report(Conversion(order_id=name, value="1.00", currency="USD")).new

def forked(work):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return child
"""


def run(folder: Path, script: str) -> None:
    subprocess.run([sys.executable, "-c", _HEAD + script, str(folder)], check=True, timeout=120)


def orders(folder: Path) -> set[str]:
    with sqlite3.connect(folder / "kit.db") as other:
        found = {row[0] for row in other.execute("select order_id from events")}
        assert other.execute("pragma integrity_check").fetchone() == ("ok",)
    other.close()
    return found


def test_a_forked_child_has_connections_of_its_own(tmp_path: Path) -> None:
    """The store was opened before the fork, and both sides write."""
    run(
        tmp_path,
        """
report("before")
child = forked(lambda: report("child"))
report("parent")
assert os.waitpid(child, 0)[1] == 0
kit.store.close()
""",
    )

    assert orders(tmp_path) == {"before", "child", "parent"}


def test_forks_in_the_middle_of_writing_harm_nothing(tmp_path: Path) -> None:
    """Four threads write without a pause while the process forks; what a child collects rolls nothing back."""
    run(
        tmp_path,
        """
import gc
ending = threading.Event()
reported = [[] for _ in range(4)]

def write(lane):
    number = 0
    while not ending.is_set():
        name = f"lane{lane}-{number}"
        assert report(name)
        reported[lane].append(name)
        number += 1

def work():
    gc.collect()
    report(f"child-{os.getpid()}")
    kit.store.close()

threads = [threading.Thread(target=write, args=(lane,), daemon=True) for lane in range(4)]
for thread in threads:
    thread.start()
for _ in range(20):
    assert os.waitpid(forked(work), 0)[1] == 0
ending.set()
for thread in threads:
    thread.join()
kit.store.close()
Path(sys.argv[1], "reported").write_text("\\n".join(name for lane in reported for name in lane))
""",
    )

    found = orders(tmp_path)
    reported = set((tmp_path / "reported").read_text().split())
    assert reported <= found
    assert len({name for name in found if name.startswith("child-")}) == 20
    assert len(found) == len(reported) + 20


def test_a_fork_while_the_store_is_being_opened(tmp_path: Path) -> None:
    """The child inherits no future that nobody will ever end."""
    run(
        tmp_path,
        """
opening = kit._opening.begin()
child = forked(lambda: report("child"))
opening.result(30)
report("parent")
assert os.waitpid(child, 0)[1] == 0
kit.store.close()
""",
    )

    assert orders(tmp_path) == {"child", "parent"}
