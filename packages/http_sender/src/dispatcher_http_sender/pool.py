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
    connection: C
    since: float


class ConnectionPool(Generic[C]):
    """Keeps connections by the place that they lead to. Threads and forks may share it.

    There is no lock that a fork or a signal could find locked: each step on a deque is atomic,
    and a connection belongs to who popped it. A fork closes what it inherits, which says nothing
    to the other side: the parent's connections go on.
    """

    def __init__(self) -> None:
        self._idle: dict[Hashable, deque[_Idle[C]]] = {}
        weakref.finalize(self, _close_all, self._idle)
        reference = weakref.WeakMethod(self.close)
        os.register_at_fork(after_in_child=lambda: (reference() or _nothing)())

    def take(self, place: Hashable) -> C | None:
        """A connection to the place which is as good as new, None where none waits."""
        waiting = self._idle.get(place, deque())
        while idle := _pop(waiting.pop):
            if not _is_old(idle) and not idle.connection.is_stale():
                return idle.connection
            idle.connection.close()
        return None

    def put(self, place: Hashable, connection: C) -> None:
        """Keep a connection on which nothing is under way; close those too old or too many."""
        self._idle.setdefault(place, deque()).append(_Idle(connection, time.monotonic()))
        for waiting in list(self._idle.values()):
            _close_surplus(waiting)

    def close(self) -> None:
        """Close the connections that wait."""
        _close_all(self._idle)


def _is_old(idle: _Idle[C]) -> bool:
    return time.monotonic() - idle.since > IDLE_SECONDS


def _pop(pop: Callable[[], _Idle[C]]) -> _Idle[C] | None:
    try:
        return pop()
    except IndexError:
        return None  # Another thread was faster.


def _close_surplus(waiting: deque[_Idle[C]]) -> None:
    while oldest := _pop(waiting.popleft):
        if len(waiting) < MOST_IDLE and not _is_old(oldest):
            waiting.appendleft(oldest)
            return
        oldest.connection.close()


def _close_all(idle: dict[Hashable, deque[_Idle[C]]]) -> None:
    for waiting in list(idle.values()):
        while left := _pop(waiting.pop):
            left.connection.close()


def _nothing() -> None:
    """In place of a pool that is gone."""
