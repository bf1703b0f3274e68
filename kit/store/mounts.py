"""Which kind of file system a file is on: SQLite's write-ahead log needs memory that only one machine has."""

import re
from pathlib import Path

#: Where Linux tells of its mounts.
MOUNTS = Path("/proc/self/mountinfo")

#: File systems that another machine serves, or that several machines write. As the kernel names them.
_NETWORK = frozenset(
    "9p afs beegfs ceph cifs coda davfs gfs2 glusterfs gpfs lustre ncpfs nfs nfs4 ocfs2 orangefs smb3 smbfs".split()
)
#: The same, served by a program.
_PROGRAMS = frozenset(
    "blobfuse blobfuse2 ceph ceph-fuse cephfs curlftpfs davfs davfs2 gcsfuse glusterfs goofys grpcfuse juicefs lustre"
    " mountpoint-s3 nfs osxfs rclone s3fs seaweedfs smbnetfs sshfs".split()
)


def network_of(file: Path) -> str | None:
    """Return the kind of network file system that the file is on, such as nfs4 or fuse.sshfs.

    None on a local one, and where the system does not tell, as anywhere but on Linux.
    """
    try:
        told = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    kind = kind_of(file.resolve(), told)
    program = kind.partition(".")[2] if kind is not None and kind.startswith("fuse.") else None
    return kind if kind in _NETWORK or program in _PROGRAMS else None


def kind_of(file: Path, mounts: str) -> str | None:
    """Return the type of the file system under this absolute path, by the lines of Linux's mountinfo (`man 5 proc`)."""
    found, depth = None, 0
    for line in mounts.split("\n"):
        mount, _, source = line.partition(" - ")
        fields = mount.split(" ")
        if len(fields) < 5 or not source:
            continue
        point = Path(_unescaped(fields[4]))
        # Of two at one place, the later one covers the earlier.
        if file.is_relative_to(point) and len(point.parts) >= depth:
            found, depth = source.split(" ")[0], len(point.parts)
    return found


def _unescaped(path: str) -> str:
    """Undo what mountinfo does to spaces, tabs, line ends and backslashes in a path."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)
