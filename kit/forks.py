"""Forks (`gunicorn --preload`, multiprocessing): none happens while one of our threads is inside a database's library.

A child's copy of a connection that was writing would, on being collected, roll back what its parent has half written;
and a lock that another thread held at that moment, SQLite's own among them, would never be released in the child.
"""

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Protocol
from weakref import WeakSet


class Forked(Protocol):
    """What owns threads, locks or connections."""

    def renew(self) -> None:
        """Begin anew, in a child: none of the parent's threads is here."""


class _Gate:
    """Many may work at once, or one may fork."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self._changed = threading.Condition()
        self._working = 0
        self._forking = False
        self._mine = threading.local()

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        if getattr(self._mine, "inside", False):
            yield
            return
        with self._changed:
            self._changed.wait_for(lambda: not self._forking)
            self._working += 1
        self._mine.inside = True
        try:
            yield
        finally:
            self._mine.inside = False
            with self._changed:
                self._working -= 1
                self._changed.notify_all()

    def shut(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._forking)
            self._forking = True
            self._changed.wait_for(lambda: not self._working)

    def open(self) -> None:
        with self._changed:
            self._forking = False
            self._changed.notify_all()


_gate = _Gate()
_watched: WeakSet[Forked] = WeakSet()

#: `with kept_off():` around all that is done with a database.
kept_off = _gate.working


def watch(one: Forked) -> None:
    """Have it renewed in every child, for as long as it lives."""
    _watched.add(one)


def _renew() -> None:
    _gate.renew()
    for one in list(_watched):
        one.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_gate.shut, after_in_parent=_gate.open, after_in_child=_renew)
