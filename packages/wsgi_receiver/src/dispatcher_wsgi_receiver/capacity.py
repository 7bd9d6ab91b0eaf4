"""The limit on how many jobs may wait, which costs no count for each of them."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Protocol

from dispatcher_core.batch_wire import BatchMessage
from dispatcher_core.errors import QueueError, QueueFull
from dispatcher_core.protocols import Queue
from dispatcher_core.wire import JobMessage

from .forks import after_fork
from .problems import Refusal

__all__ = ["Capacity", "Intake"]

_KEPT = 1.0  # seconds: by then other processes may have used up what was counted
# Seconds between two counts, for each job that may wait. SQLite passes some 15 jobs in this
# time, so a receiver that has to refuse everything does not spend its time on counting.
_REST = 1e-6
_SHARES = 8  # of the room is spent one between two counts, since others spend it as well


class Intake(Protocol):
    """What takes new jobs and batches: a queue, or :class:`Capacity` before it."""

    def put(self, job: JobMessage) -> bool:
        """As :meth:`Queue.put`."""

    def put_batch(self, batch: BatchMessage) -> tuple[str, ...] | None:
        """As :meth:`Queue.put_batch`."""


class Capacity:
    """Puts jobs into a queue for as long as no more than so many wait there.

    Each acceptance spends of the room that the last count has found. Jobs are counted again when
    an eighth of it is spent, before one is refused, and after a second; but the next count comes
    no sooner than a microsecond for each job of the limit. So one process keeps to the limit,
    with any number of threads; each further one that accepts jobs at the same time may exceed it
    by about an eighth of it, or by a batch. Only what requests bring is held up: not callbacks
    that come due, nor tries that are repeated, nor what jobs add.

    Args:
        queue: where the jobs go.
        limit: how many may wait, at least 1.
        clock: the time in seconds, from any moment on.
    """

    def __init__(
        self, queue: Queue, limit: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._queue = queue
        self._limit = limit
        self._clock = clock
        self._start_afresh()
        after_fork(self._start_afresh)

    def _start_afresh(self) -> None:
        self._lock = Lock()
        self._room = 0
        self._share = 0  # what may be spent of it before the next count
        self._unsettled = 0  # what was spent for puts that have not yet returned
        self._counted = float("-inf")

    def put(self, job: JobMessage) -> bool:
        """Put a job; False if this very job is known already, also where there is no room.

        Raises:
            QueueFull: as many jobs wait as are allowed.
            QueueError: the queue does not take it.
        """
        with self._reserved(1, job.id):
            return self._queue.put(job)

    def put_batch(self, batch: BatchMessage) -> tuple[str, ...] | None:
        """Put a batch, all of it or nothing; the ids of its jobs if it is known already.

        Raises:
            QueueFull: its jobs do not fit, for now.
            Refusal: ``too-large``, where they never will.
            QueueError: the queue does not take it.
        """
        with self._reserved(len(batch.jobs), batch.id):
            return self._queue.put_batch(batch)

    @contextmanager
    def _reserved(self, count: int, id: str) -> Iterator[None]:
        """Room for so many jobs, taken before they are put; what is known needs none."""
        if self._take(count):
            try:
                yield
            finally:
                self._settle(count)
        elif self._queue.is_taken(id):
            yield
        else:
            raise self._refusal(count)

    def _take(self, count: int) -> bool:
        with self._lock:
            if self._is_due(count):
                self._count()
            if count > self._room:
                return False
            self._room -= count
            self._share -= count
            self._unsettled += count
            return True

    def _settle(self, count: int) -> None:
        with self._lock:
            self._unsettled -= count

    def _is_due(self, count: int) -> bool:
        age = self._clock() - self._counted
        return age >= _KEPT or (count > self._share and age >= self._limit * _REST)

    def _count(self) -> None:
        waiting = self._queue.waiting(self._limit)
        # What other threads are putting now may be counted twice, but must not be left out.
        self._room = max(0, self._limit - waiting - self._unsettled)
        self._share = math.ceil(self._room / _SHARES)
        self._counted = self._clock()

    def _refusal(self, count: int) -> QueueError | Refusal:
        if count <= self._limit:
            return QueueFull(f"no room for {count} more: at most {self._limit} jobs may wait")
        return Refusal(
            f"the batch has {count} jobs, and at most {self._limit} may wait here"
            " (max_queued): send smaller ones",
            "too-large",
        )
