"""A queue in memory."""

import math
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Self

from ..batch_wire import BatchMessage
from ..errors import IdReused, QueueFull
from ..status import BatchState, BatchStatus, JobStatus
from ..wire import JobMessage

__all__ = ["MemoryQueue"]

_MOST_FAILED_IDS = 100


class MemoryQueue:
    """A queue that lasts as long as its process, for tests: no worker takes jobs from it.

    Args:
        max_jobs: how many jobs may wait, callbacks that are not due apart; None for no limit.
        now: the time, aware.
    """

    def __init__(
        self,
        max_jobs: int | None = None,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._max_jobs = max_jobs
        self._now = now
        self._lock = threading.Lock()
        self._fingerprints: dict[str, bytes] = {}
        self._jobs: list[JobMessage] = []
        self._statuses: dict[str, JobStatus] = {}
        self._accepted: dict[str, BatchMessage] = {}
        self._batches: dict[str, BatchStatus] = {}
        self._cancelled: set[str] = set()

    @classmethod
    def from_url(cls, url: str) -> Self:
        """A fresh queue for a URL such as ``memory:``, which says no more than that."""
        return cls()

    @property
    def jobs(self) -> list[JobMessage]:
        """The jobs that were put, singly or together, in order, each once; no callbacks."""
        with self._lock:
            return list(self._jobs)

    @property
    def batches(self) -> list[BatchMessage]:
        """The batches, and the sets of single jobs, that were put, in order, each once."""
        with self._lock:
            return list(self._accepted.values())

    def put(self, job: JobMessage) -> bool:
        """Keep the job; False if this very job is known already.

        Raises:
            IdReused: its id belongs to something else.
            QueueFull: as many jobs wait as are allowed.
        """
        with self._lock:
            if self._knows(job.id, job.fingerprint):
                return False
            self._check_room(1)
            self._keep(job, None)
            return True

    def put_batch(self, batch: BatchMessage) -> tuple[str, ...] | None:
        """Keep a batch, all of it or nothing; the ids of its jobs if it is known already.

        Raises:
            IdReused: its id, or that of a job or callback, belongs to something else.
            QueueFull: as many jobs wait as are allowed.
        """
        with self._lock:
            if self._knows(batch.id, batch.fingerprint):
                return self._accepted[batch.id].ids
            new = [*batch.jobs, *batch.callbacks.values()]
            for job in new:
                if job.id in self._fingerprints:
                    raise IdReused(job.id)
            self._check_room(len(batch.jobs))
            self._keep_batch(batch)
            return None

    def find_job(self, id: str) -> JobStatus | None:
        """What is known of a job, None for an unknown id."""
        with self._lock:
            return self._statuses.get(id)

    def find_batch(self, id: str) -> BatchStatus | None:
        """What is known of a batch, None for an unknown id and for jobs kept singly."""
        with self._lock:
            return self._batches.get(id)

    def cancel_job(self, id: str) -> JobStatus | None:
        """Cancel a job that waits, or ask a running one to stop; a finished one stays."""
        with self._lock:
            if id in self._statuses:
                self._cancel(id)
                self._settle(self._statuses[id].batch_id)
            return self._statuses.get(id)

    def cancel_batch(self, id: str) -> BatchStatus | None:
        """Cancel the jobs of a batch that wait, and ask the running ones to stop."""
        with self._lock:
            status = self._batches.get(id)
            if status is not None and not status.finished:
                self._cancelled.add(id)
                self._cancel_all(id)
                self._settle(id)
            return self._batches.get(id)

    def workers(self) -> None:
        """None: nobody works on these jobs."""
        return

    def is_taken(self, id: str) -> bool:
        """Whether the id is that of a job, a batch, or jobs that were put together singly."""
        with self._lock:
            return id in self._fingerprints or id in self._statuses

    def waiting(self, limit: int) -> int:
        """How many jobs wait, counted no further than the limit; callbacks once they are due."""
        with self._lock:
            return min(limit, self._count_waiting())

    def set_status(self, status: JobStatus) -> None:
        """Make this the status of its job, as a worker would; the job need not be known.

        A job of a batch is counted there, with all that follows for the batch.
        """
        with self._lock:
            self._statuses[status.id] = status
            self._settle(status.batch_id)

    def set_batch_status(self, status: BatchStatus) -> None:
        """Make this the status of its batch, whatever its jobs; it need not be known."""
        with self._lock:
            self._batches[status.id] = status

    def _knows(self, id: str, fingerprint: bytes) -> bool:
        known = self._fingerprints.get(id)
        if known is not None and known != fingerprint:
            raise IdReused(id)
        return known is not None

    def _check_room(self, count: int) -> None:
        if self._max_jobs is None:
            return
        waiting = self._count_waiting()
        if waiting + count > self._max_jobs:
            raise QueueFull(f"{waiting} jobs wait already")

    def _count_waiting(self) -> int:
        # Only a callback that is not due has no time.
        return sum(
            status.state in ("queued", "scheduled") and status.available_at is not None
            for status in self._statuses.values()
        )

    def _keep(self, job: JobMessage, batch_id: str | None) -> None:
        self._fingerprints[job.id] = job.fingerprint
        self._jobs.append(job)
        self._statuses[job.id] = _new_status(job, self._time(), batch_id)

    def _keep_batch(self, batch: BatchMessage) -> None:
        batch_id = batch.id if batch.should_batch else None
        self._fingerprints[batch.id] = batch.fingerprint
        self._accepted[batch.id] = batch
        for job in batch.jobs:
            self._keep(job, batch_id)
        for callback in batch.callbacks.values():
            self._fingerprints[callback.id] = callback.fingerprint
            waiting = _new_status(callback, self._time(), batch_id)
            self._statuses[callback.id] = replace(waiting, state="scheduled", available_at=None)
        if batch.should_batch:
            self._batches[batch.id] = _new_batch_status(batch, self._time())
            self._settle(batch.id)

    def _cancel(self, id: str) -> None:
        status = self._statuses[id]
        if status.state == "running":
            self._statuses[id] = replace(status, cancel_requested=True)
        elif not status.finished:
            self._statuses[id] = replace(
                status, state="cancelled", cancel_requested=True, finished_at=self._time()
            )

    def _cancel_all(self, batch_id: str) -> None:
        for each in self._accepted[batch_id].ids:
            self._cancel(each)

    def _settle(self, batch_id: str | None) -> None:
        """Count the jobs of a batch, and do what follows from the counts."""
        batch, status = self._accepted.get(batch_id or ""), self._batches.get(batch_id or "")
        if batch is None or status is None or status.finished:
            return
        if any(self._statuses[each].state == "failed" for each in batch.ids):
            self._make_due(batch.catch)
            if not batch.allow_failures:
                self._cancel_all(batch.id)
        status = _counted(status, [self._statuses[each] for each in batch.ids])
        self._batches[batch.id] = status if status.pending else self._finished(batch, status)

    def _finished(self, batch: BatchMessage, status: BatchStatus) -> BatchStatus:
        state = _final_state(status, batch.allow_failures, batch.id in self._cancelled)
        self._make_due(batch.finally_)
        if state == "succeeded":
            self._make_due(batch.then)
        self._drop(batch.then)
        self._drop(batch.catch)
        return replace(status, state=state, finished_at=self._time())

    def _make_due(self, callback: JobMessage | None) -> None:
        if callback is not None and self._waits_for_batch(callback):
            old = self._statuses[callback.id]
            new = _new_status(callback, self._time(), old.batch_id)
            self._statuses[callback.id] = replace(new, created_at=old.created_at)

    def _drop(self, callback: JobMessage | None) -> None:
        if callback is not None and self._waits_for_batch(callback):
            self._statuses[callback.id] = replace(
                self._statuses[callback.id], state="cancelled", finished_at=self._time()
            )

    def _waits_for_batch(self, callback: JobMessage) -> bool:
        status = self._statuses[callback.id]
        return status.state == "scheduled" and status.available_at is None

    def _time(self) -> datetime:
        now = self._now()
        return now.replace(microsecond=now.microsecond // 1000 * 1000)


def _new_status(job: JobMessage, now: datetime, batch_id: str | None) -> JobStatus:
    available_at = now + timedelta(milliseconds=math.ceil(job.delay * 1000))
    return JobStatus(
        id=job.id,
        job=job.job,
        queue=job.queue,
        state="scheduled" if job.delay > 0 else "queued",
        batch_id=batch_id,
        created_at=now,
        available_at=available_at,
    )


def _new_batch_status(batch: BatchMessage, now: datetime) -> BatchStatus:
    return BatchStatus(
        id=batch.id,
        state="running",
        total=len(batch.jobs),
        pending=len(batch.jobs),
        succeeded=0,
        failed=0,
        cancelled=0,
        then_id=None if batch.then is None else batch.then.id,
        catch_id=None if batch.catch is None else batch.catch.id,
        finally_id=None if batch.finally_ is None else batch.finally_.id,
        created_at=now,
    )


def _counted(status: BatchStatus, jobs: Sequence[JobStatus]) -> BatchStatus:
    counts = Counter(job.state for job in jobs)
    failed = [job.id for job in jobs if job.state == "failed"]
    return replace(
        status,
        pending=sum(not job.finished for job in jobs),
        succeeded=counts["succeeded"],
        failed=counts["failed"],
        cancelled=counts["cancelled"],
        failed_ids=tuple(failed[:_MOST_FAILED_IDS]),
    )


def _final_state(status: BatchStatus, allow_failures: bool, was_cancelled: bool) -> BatchState:
    if was_cancelled:
        return "cancelled"
    if allow_failures:
        return "succeeded"
    if status.failed:
        return "failed"
    return "cancelled" if status.cancelled else "succeeded"
