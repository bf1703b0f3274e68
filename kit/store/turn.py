"""Turns: whoever begins a transaction on a SQLite file waits behind whoever came before, across processes.

SQLite's own waiting polls with growing pauses, so that beside one busy process the others starve. The turn is held
only until the transaction has begun: one waits for SQLite's lock, the others for the turn.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows: SQLite's own waiting only
    fcntl = None  # type: ignore[assignment]

_PAUSE = 0.0002


class Turn:
    """`path` is a file of its own beside the database. Nobody waits longer than `patience`; then SQLite decides."""

    def __init__(self, path: Path, *, patience: timedelta) -> None:
        self._path = path
        self._patience = patience.total_seconds()
        self._file: int | None = None
        self._pid = 0

    @contextlib.contextmanager
    def taken(self) -> Iterator[float]:
        """Take the turn, and give it on at the end; yields for how long it was waited for, in seconds."""
        began = time.monotonic()
        file = self._opened() if fcntl is not None else None
        if file is None:
            yield 0.0
            return
        try:
            while not _locked(file) and time.monotonic() - began < self._patience:
                time.sleep(_PAUSE)
            yield time.monotonic() - began
        finally:
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_UN)

    def _opened(self) -> int | None:
        # A lock belongs to every copy of the file that forks made: a child opens its own.
        if self._pid != os.getpid():
            self.close()
            with contextlib.suppress(OSError):
                self._file, self._pid = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600), os.getpid()
        return self._file

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
        self._file, self._pid = None, 0


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True
