"""Keeps forks and the use of SQLite apart.

SQLite notes in the memory of the process what it has locked. A fork inherits the notes but
not the locks: what it then opens waits for ever for a lock that nobody holds, or trusts one
that it has not, and commits are lost (https://sqlite.org/howtocorrupt.html, 2.6). Opening
connections of its own does not help a fork; only that none was open when it was made.
"""

import os
import weakref
from collections.abc import Callable
from threading import Condition, RLock, get_ident

__all__ = ["ForkGate"]

_PATIENCE = 10.0  # seconds that a fork waits for the other threads; then it takes the risk


class ForkGate:
    """Entered for each use of connections. A fork waits until no other thread is inside.

    Args:
        close: closes every connection that is not in use. Called before each fork.
    """

    def __init__(self, close: Callable[[], None]) -> None:
        self._close = weakref.WeakMethod(close)
        self._open_anew()
        # What is registered stays for as long as the process: it must not keep this alive.
        gate = weakref.ref(self)
        os.register_at_fork(
            before=lambda: _call(gate, ForkGate._shut),
            after_in_parent=lambda: _call(gate, ForkGate._open),
            after_in_child=lambda: _call(gate, ForkGate._open_anew),
        )

    def __enter__(self) -> None:
        thread = get_ident()
        with self._lock:
            depth = self._inside.get(thread, 0)
            # Who is inside already may go deeper: the fork waits for him.
            while self._is_shut and not depth:
                self._changed.wait()
            self._inside[thread] = depth + 1

    def __exit__(self, *_: object) -> None:
        thread = get_ident()
        with self._lock:
            depth = self._inside.pop(thread, 1) - 1  # 1: a fork made inside has begun anew
            if depth:
                self._inside[thread] = depth
            elif self._is_shut:
                self._changed.notify_all()

    def _shut(self) -> None:
        with self._lock:
            self._is_shut = True
            self._changed.wait_for(lambda: not self._inside.keys() - {get_ident()}, _PATIENCE)
        close = self._close()
        if close is not None:
            close()

    def _open(self) -> None:
        with self._lock:
            self._is_shut = False
            self._changed.notify_all()

    def _open_anew(self) -> None:
        # The child has none of the other threads, and no way to open their locks.
        self._lock = RLock()
        self._changed = Condition(self._lock)
        self._is_shut = False
        self._inside: dict[int, int] = {}


def _call(reference: weakref.ref[ForkGate], method: Callable[[ForkGate], None]) -> None:
    gate = reference()
    if gate is not None:
        method(gate)
