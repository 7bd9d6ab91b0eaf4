"""Threads that write at the same time share one commit.

Waiting for the disk is what an enqueue costs, and one wait serves any number of rows. The
first thread to come leads: it takes what has gathered, writes it, and hands the lead on. So
load raises throughput, not latency.
"""

import os
import time
import weakref
from collections.abc import Callable, Sequence
from copy import copy
from threading import Lock
from typing import Generic, TypeVar

from dispatcher_core.errors import QueueUnavailable

__all__ = ["GroupCommit"]

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

_MOST = 64
_GATHERING = 0.5  # of the last commit's time: how long a leader waits for company
_PATIENCE = 1.0  # seconds until one looks again: an interrupted leader may have woken nobody
_LONGEST_GATHERING = 0.01  # seconds: a commit that waited for a lock says nothing of the next


class _Entry(Generic[Item, Outcome]):
    """An item, and what became of it."""

    __slots__ = ("error", "item", "outcome", "settled", "woken")

    def __init__(self, item: Item) -> None:
        self.item = item
        self.outcome: Outcome | None = None
        self.error: BaseException | None = None
        self.settled = False
        self.woken = Lock()
        self.woken.acquire()

    def result(self) -> Outcome:
        if self.error is not None:
            raise self.error
        return self.outcome  # type: ignore[return-value]


class GroupCommit(Generic[Item, Outcome]):
    """Gathers the items of many threads for one writer.

    Args:
        write: writes items in one commit, and gives an outcome for each. When it fails, the
            items are written one by one, so that one item's error is not another's; but for
            QueueUnavailable, which no item is to blame for.
    """

    def __init__(self, write: Callable[[Sequence[Item]], Sequence[Outcome]]) -> None:
        self._write = write
        self._start_afresh()
        # A fork has neither the threads of its parent nor a way to open their locks.
        reference = weakref.WeakMethod(self._start_afresh)
        os.register_at_fork(after_in_child=lambda: (reference() or _nothing)())

    def _start_afresh(self) -> None:
        self._mutex = Lock()
        self._waiting: list[_Entry[Item, Outcome]] = []
        self._leader: _Entry[Item, Outcome] | None = None
        self._last_size = 1
        self._last_time = 0.0

    def add(self, item: Item) -> Outcome:
        """What came of writing the item, once it is committed.

        Raises:
            Exception: whatever writing it raised.
        """
        entry: _Entry[Item, Outcome] = _Entry(item)
        try:
            with self._mutex:
                self._waiting.append(entry)
                self._leader = self._leader or entry
            while not entry.settled:
                if self._leader is entry:
                    self._lead(entry)
                else:
                    entry.woken.acquire(timeout=_PATIENCE)
        except BaseException:
            # Its thread was interrupted: the others must not wait for it.
            self._leave(entry)
            raise
        return entry.result()

    def _lead(self, leader: _Entry[Item, Outcome]) -> None:
        self._gather()
        with self._mutex:
            group = self._waiting[:_MOST]
        started = time.perf_counter()
        self._settle(group)
        self._last_size, self._last_time = len(group), time.perf_counter() - started
        self._leave(leader)

    def _gather(self) -> None:
        # Only a leader that had company before waits for it again: a lone thread never does.
        if self._last_size < 2:
            return
        longest = min(self._last_time * _GATHERING, _LONGEST_GATHERING)
        until = time.perf_counter() + longest
        while len(self._waiting) < self._last_size and time.perf_counter() < until:
            time.sleep(0)

    def _settle(self, group: Sequence[_Entry[Item, Outcome]]) -> None:
        try:
            outcomes = self._write([entry.item for entry in group])
        except QueueUnavailable as error:
            # No item is to blame, and each alone would wait as long again.
            for entry in group:
                entry.error = copy(error)
        except Exception as error:  # noqa: BLE001 - each thread gets its own below
            if len(group) > 1:
                for entry in group:
                    self._settle([entry])
                return
            group[0].error = error
        else:
            for entry, outcome in zip(group, outcomes, strict=True):
                entry.outcome = outcome
        for entry in group:
            entry.settled = True

    def _leave(self, entry: _Entry[Item, Outcome]) -> None:
        """Wait no more; who leads hands the lead on, and wakes those whose items are settled."""
        with self._mutex:
            settled, self._waiting = _without(entry, self._waiting)
            following = None
            if self._leader is entry:
                self._leader = following = self._waiting[0] if self._waiting else None
        # First of all: the next leader starts its commit while the others wake up.
        for other in (following, *settled):
            if other is not None:
                other.woken.release()


def _without(
    entry: _Entry[Item, Outcome], entries: Sequence[_Entry[Item, Outcome]]
) -> tuple[list[_Entry[Item, Outcome]], list[_Entry[Item, Outcome]]]:
    """The other entries, those that are settled and those that are not.

    A function of its own: a signal in mid-comprehension leaves Python 3.13.0 with the lock of
    the ``with`` around it, as its compiler covers such a jump by no exception handler.
    """
    others = [other for other in entries if other is not entry]
    settled = [other for other in others if other.settled]
    return settled, [other for other in others if not other.settled]


def _nothing() -> None:
    """What a fork does for what is gone already."""
