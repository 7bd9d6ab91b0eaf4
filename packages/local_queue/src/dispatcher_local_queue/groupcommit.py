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
        self.woken: Lock | None = None

    def wait(self) -> None:
        """Sleep until somebody has settled the item, or made this the leader."""
        if self.woken is not None:
            self.woken.acquire(timeout=_PATIENCE)

    def wake(self) -> None:
        """End that sleep."""
        if self.woken is not None:
            self.woken.release()

    def result(self) -> Outcome:
        if self.error is not None:
            raise self.error
        return self.outcome  # type: ignore[return-value]


class GroupCommit(Generic[Item, Outcome]):
    """Gathers the items of many threads for one writer.

    Args:
        write_one: writes an item in a commit of its own, and gives its outcome.
        write_all: writes items in one commit, and gives an outcome for each. When it fails, the
            items are written one by one, so that one item's error is not another's; but for
            QueueUnavailable, which no item is to blame for.
    """

    def __init__(
        self,
        write_one: Callable[[Item], Outcome],
        write_all: Callable[[Sequence[Item]], Sequence[Outcome]],
    ) -> None:
        self._write_one = write_one
        self._write_all = write_all
        self._start_afresh()
        # A fork has neither the threads of its parent nor a way to open their locks.
        reference = weakref.WeakMethod(self._start_afresh)
        os.register_at_fork(after_in_child=lambda: (reference() or _nothing)())

    def _start_afresh(self) -> None:
        self._writing = Lock()
        self._shared = False
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
        if not (self._shared or self._writing.locked()):
            # Nobody is there to share a commit with: the shortest way. If two come here at once,
            # one waits for the other.
            with self._writing:
                return self._write_one(item)
        self._shared = True
        entry: _Entry[Item, Outcome] = _Entry(item)
        try:
            with self._mutex:
                self._waiting.append(entry)
                if self._leader is None:
                    self._leader = entry
                else:
                    entry.woken = _shut()
            while not entry.settled:
                if self._leader is entry:
                    self._lead(entry)
                else:
                    entry.wait()
        except BaseException:
            # Its thread was interrupted: the others must not wait for it.
            self._leave(entry)
            raise
        return entry.result()

    def _lead(self, leader: _Entry[Item, Outcome]) -> None:
        with self._writing:
            if self._last_size > 1:
                self._gather()
            group = self._waiting[:_MOST]
            started = time.perf_counter()
            self._settle(group)
        self._last_size, self._last_time = len(group), time.perf_counter() - started
        self._shared = len(group) > 1
        self._leave(leader)

    def _gather(self) -> None:
        # Only a leader that had company before comes here: a lone thread never waits.
        longest = min(self._last_time * _GATHERING, _LONGEST_GATHERING)
        until = time.perf_counter() + longest
        while len(self._waiting) < self._last_size and time.perf_counter() < until:
            time.sleep(0)

    def _settle(self, group: Sequence[_Entry[Item, Outcome]]) -> None:
        try:
            outcomes = self._write_all([entry.item for entry in group])
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
        woken: list[_Entry[Item, Outcome]] = []
        with self._mutex:
            if self._waiting == [entry]:
                self._waiting = []
            else:
                woken, self._waiting = _without(entry, self._waiting)
            if self._leader is entry:
                self._leader = None
                if self._waiting:
                    self._leader = self._waiting[0]
                    # First of all: it starts its commit while the others wake up.
                    woken.insert(0, self._leader)
        for other in woken:
            other.wake()


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


def _shut() -> Lock:
    """A lock that is held already."""
    lock = Lock()
    lock.acquire()
    return lock


def _nothing() -> None:
    """What a fork does for what is gone already."""
