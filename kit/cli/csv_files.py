"""CSV files for somebody else's machine: private, whole or not there, and of so many rows at most."""

import csv
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self


class CsvFiles:
    """Writes rows into `target`, or into target-1, target-2, … where there are more than `most`, each with `header`.

    They come into their places when the block ends, and not at all when an exception ends it. UTF-8, readable by their
    owner alone. Raises OSError where the folder cannot be written.
    """

    def __init__(self, target: Path, header: Sequence[str], *, most: int) -> None:
        self._target = target
        self._header = header
        self._most = most
        self._parts: list[Path] = []
        self._open: IO[str] | None = None
        self._writer: Any = None
        self._rows = 0

    def __enter__(self) -> Self:
        self._next()
        return self

    def write(self, row: Iterable[str]) -> None:
        if self._rows == self._most:
            self._next()
        self._writer.writerow(row)
        self._rows += 1

    @property
    def paths(self) -> list[Path]:
        """Where the files stand when the block has ended."""
        if len(self._parts) == 1:
            return [self._target]
        stem, suffix = self._target.stem, self._target.suffix
        return [self._target.with_name(f"{stem}-{number}{suffix}") for number in range(1, len(self._parts) + 1)]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        try:
            self._finish()
            if error is None:
                for part, path in zip(self._parts, self.paths, strict=True):
                    part.replace(path)
        finally:
            for part in self._parts:
                part.unlink(missing_ok=True)

    def _next(self) -> None:
        self._finish()
        # mkstemp's file is its owner's alone.
        handle, name = tempfile.mkstemp(dir=self._target.parent, prefix=f".{self._target.name}-", suffix=".part")
        self._parts.append(Path(name))
        self._open = os.fdopen(handle, "w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._open, lineterminator="\n")
        self._writer.writerow(self._header)
        self._rows = 0

    def _finish(self) -> None:
        if self._open is not None:
            with self._open as file:
                file.flush()
                os.fsync(file.fileno())
            self._open = None
