"""Connections that wait for their next request."""

import os
import time
import weakref
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

__all__ = ["IDLE_SECONDS", "MOST_IDLE", "ConnectionPool", "Poolable"]

IDLE_SECONDS = 4.0
"""How long a connection waits: many servers close theirs after five seconds."""
MOST_IDLE = 32
"""How many connections to one place wait at most."""


class Poolable(Protocol):
    """What the pool must know of a connection."""

    def is_stale(self) -> bool:
        """Whether it cannot carry another request."""

    def close(self) -> None:
        """Close it."""


C = TypeVar("C", bound=Poolable)


@dataclass(frozen=True, slots=True)
class _Idle(Generic[C]):
    """A connection that waits, since when, and in which process it was used."""

    connection: C
    since: float
    pid: int

    def is_old(self) -> bool:
        """Whether it has waited too long, or is the parent's of this fork."""
        return time.monotonic() - self.since > IDLE_SECONDS or self.pid != os.getpid()


class ConnectionPool(Generic[C]):
    """Keeps connections by the place that they lead to. Threads and forks may share it.

    There is no lock that a fork or a signal could find locked: each step on a deque is atomic,
    and a connection belongs to who popped it. A fork uses nothing that it inherits, and closes
    it where it comes across it, which says nothing to the other side: the parent's connections
    go on.
    """

    def __init__(self) -> None:
        self._idle: dict[Hashable, deque[_Idle[C]]] = {}
        weakref.finalize(self, _close_all, self._idle)

    def take(self, place: Hashable) -> C | None:
        """A connection to the place which is as good as new, None where none waits."""
        waiting = self._idle.get(place, deque())
        while idle := _pop(waiting.pop):
            if not idle.is_old() and not idle.connection.is_stale():
                return idle.connection
            idle.connection.close()
        return None

    def put(self, place: Hashable, connection: C) -> None:
        """Keep a connection on which nothing is under way; close those too old or too many."""
        idle = _Idle(connection, time.monotonic(), os.getpid())
        self._idle.setdefault(place, deque()).append(idle)
        for waiting in list(self._idle.values()):
            _close_surplus(waiting)

    def close(self) -> None:
        """Close the connections that wait."""
        _close_all(self._idle)


def _pop(pop: Callable[[], _Idle[C]]) -> _Idle[C] | None:
    try:
        return pop()
    except IndexError:
        return None  # Another thread was faster.


def _close_surplus(waiting: deque[_Idle[C]]) -> None:
    while oldest := _pop(waiting.popleft):
        if len(waiting) < MOST_IDLE and not oldest.is_old():
            waiting.appendleft(oldest)
            return
        oldest.connection.close()


def _close_all(idle: dict[Hashable, deque[_Idle[C]]]) -> None:
    for waiting in list(idle.values()):
        while left := _pop(waiting.pop):
            left.connection.close()
