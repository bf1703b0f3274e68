"""Which kind of file system a file is on, and what becomes of SQLite's write-ahead log there."""

import asyncio
import os
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from kit import Conversion
from kit.doctor import examine
from kit.store import engine, mounts
from kit.store.mounts import kind_of, network_of
from tests.support import make_kit

MOUNTS = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
31 27 0:40 / /srv rw,relatime shared:4 master:2 - nfs4 files:/srv rw,vers=4.2
32 31 0:41 / /srv/fast rw,relatime - xfs /dev/vdb rw
33 27 0:42 / /mnt/with\\040space rw - cifs //files/share rw
34 27 0:43 / /home/jane/remote rw - fuse.sshfs jane@host: rw
35 27 0:44 / /home/jane/merged rw - fuse.mergerfs a:b rw
36 27 0:45 / /mnt/c rw - 9p drvfs rw
37 27 0:46 / /covered rw - nfs files:/covered rw
38 37 0:47 / /covered rw - tmpfs tmpfs rw
a line of tomorrow
"""


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file for what the system tells of its mounts."""
    file = tmp_path / "mountinfo"
    monkeypatch.setattr(mounts, "MOUNTS", file)
    return file


@pytest.mark.parametrize(
    ("file", "kind", "network"),
    [
        ("/var/kit.db", "ext4", None),
        ("/srv/shop/kit.db", "nfs4", "nfs4"),
        ("/srv/fast/kit.db", "xfs", None),
        ("/srvs/kit.db", "ext4", None),
        ("/mnt/with space/kit.db", "cifs", "cifs"),
        ("/home/jane/remote/kit.db", "fuse.sshfs", "fuse.sshfs"),
        ("/home/jane/merged/kit.db", "fuse.mergerfs", None),
        ("/mnt/c/kit.db", "9p", "9p"),
        ("/covered/kit.db", "tmpfs", None),
    ],
)
def test_the_innermost_mount_says_what_a_file_is_on(told: Path, file: str, kind: str, network: str | None) -> None:
    """By the lines of Linux's mountinfo, whatever else stands there."""
    told.write_text(MOUNTS)

    assert (kind_of(Path(file), MOUNTS), network_of(Path(file))) == (kind, network)


def test_a_system_that_does_not_tell_is_no_reason_to_doubt(told: Path, tmp_path: Path) -> None:
    """Anywhere but on Linux."""
    assert not told.exists()
    assert network_of(tmp_path / "kit.db") is None


def test_a_store_on_a_network_file_system_has_no_write_ahead_log(
    told: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S09: TRUNCATE, also where this SQLite's log is safe; orders are taken, and the doctor says what to do."""
    told.write_text(f"27 1 0:40 / {tmp_path} rw - nfs4 files:/srv rw\n")
    monkeypatch.setattr(engine, "wal_is_safe", lambda _: True)
    kit = make_kit(tmp_path, destinations=[])

    new = kit.sync.report(Conversion(order_id="order-1", email="jane@example.com")).new
    mode = kit.store.read_sync(lambda connection: connection.exec_driver_sql("PRAGMA journal_mode").scalar())
    found = {one.about: one for one in asyncio.run(examine(kit, ask_vendors=False))}

    kit.store.close()
    assert (new, mode) == (True, "truncate")
    assert (found["file system"].state, found["file system"].said) == ("warning", "nfs4")
    assert found["durability"].state == "good"


# ---------------------------------------------------------------- a real one

_IN, _INIT, _GETATTR, _FORGET = struct.Struct("<IIQQIIIHH"), 26, 3, 2


def _answers(device: int) -> None:
    """Serve a file system that is an empty folder, until it is unmounted."""
    with suppress(OSError):
        while True:
            asked = os.read(device, 1 << 18)
            _, opcode, unique, *_ = _IN.unpack_from(asked)
            body, error = b"", -38  # not known here
            if opcode == _INIT:
                body, error = struct.pack("<IIIIHHIIHHI28x", 7, 31, 0, 0, 1, 1, 4096, 1, 1, 0, 0), 0
            elif opcode == _GETATTR:
                attributes = struct.pack("<QQQQQQIIIIIIIIII", 1, 0, 0, 0, 0, 0, 0, 0, 0, 0o40755, 2, 0, 0, 0, 4096, 0)
                body, error = struct.pack("<QII", 0, 0, 0) + attributes, 0
            if opcode != _FORGET:
                os.write(device, struct.pack("<IiQ", 16 + len(body), error, unique) + body)


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[Path]:
    """A folder that the kernel knows as one of sshfs."""
    folder = tmp_path / "a remote folder"
    folder.mkdir()
    try:
        device = os.open("/dev/fuse", os.O_RDWR)
    except OSError:
        pytest.skip("needs FUSE")
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0"
    command = ["mount", "-i", "-t", "fuse.sshfs", "-o", options, "host:", str(folder)]
    mounted = subprocess.run(command, pass_fds=[device], capture_output=True, check=False, timeout=10)
    if mounted.returncode:
        os.close(device)
        pytest.skip(f"needs to mount a file system: {mounted.stderr.decode()}")
    serving = threading.Thread(target=_answers, args=(device,), daemon=True)
    serving.start()
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True, timeout=10)
    serving.join(5)
    os.close(device)


def test_a_real_mount_is_recognised(remote: Path) -> None:
    """S09: as this system's kernel tells of it, by a path with spaces in it."""
    assert network_of(remote / "kit.db") == "fuse.sshfs"
    assert network_of(remote.parent / "kit.db") is None
