"""Keeps forks and the use of SQLite apart.

SQLite notes in the memory of the process what it has locked. A fork inherits the notes but
not the locks: what it then opens waits for ever for a lock that nobody holds, or trusts one
that it has not, and commits are lost (https://sqlite.org/howtocorrupt.html, 2.6). Opening
connections of its own does not help a fork; only that none was open when it was made.
"""

import os
import time
import weakref
from collections.abc import Callable
from threading import get_ident

__all__ = ["ForkGate"]

_PATIENCE = 10.0  # seconds that a fork waits for the other threads; then it takes the risk
_LOOK_AGAIN = 0.0002


class ForkGate:
    """Entered for each use of connections. A fork waits until no other thread is inside.

    Every use pays for it, forks are rare: so who enters takes no lock, and who waits polls.
    It rests on each step on a dict or an attribute being seen by all threads at once, in
    order: who enters tells it first and then looks whether the gate is shut; who forks shuts
    it first and then looks who is inside. So one of the two sees the other.

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
        inside, thread = self._inside, get_ident()
        depth = inside.get(thread, 0)
        inside[thread] = depth + 1
        # Who is inside already may go deeper: the fork waits for him.
        if self._forking and not depth:
            self._wait(thread)

    def __exit__(self, *_: object) -> None:
        inside, thread = self._inside, get_ident()
        depth = inside.get(thread, 1) - 1  # 1: a fork made inside has begun anew
        if depth:
            inside[thread] = depth
        else:
            inside.pop(thread, None)

    def _wait(self, thread: int) -> None:
        while self._forking:
            self._inside.pop(thread, None)
            time.sleep(_LOOK_AGAIN)
            self._inside[thread] = 1

    def _shut(self) -> None:
        self._forking.add(get_ident())  # several threads may fork at once
        end = time.monotonic() + _PATIENCE
        while self._inside.keys() - {get_ident()} and time.monotonic() < end:
            time.sleep(_LOOK_AGAIN)
        close = self._close()
        if close is not None:
            close()

    def _open(self) -> None:
        self._forking.discard(get_ident())

    def _open_anew(self) -> None:
        # The child has none of the other threads.
        self._forking: set[int] = set()
        self._inside: dict[int, int] = {}


def _call(reference: weakref.ref[ForkGate], method: Callable[[ForkGate], None]) -> None:
    gate = reference()
    if gate is not None:
        method(gate)
