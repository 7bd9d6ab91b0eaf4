"""A queue in memory."""

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Self

from ..errors import IdReused, QueueFull
from ..status import JobStatus
from ..wire import JobMessage

__all__ = ["MemoryQueue"]


class MemoryQueue:
    """A queue that lasts as long as its process, for tests: no worker takes jobs from it.

    Args:
        max_jobs: how many jobs may wait; None for no limit.
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
        self._messages: dict[str, JobMessage] = {}
        self._statuses: dict[str, JobStatus] = {}

    @classmethod
    def from_url(cls, url: str) -> Self:
        """A fresh queue for a URL such as ``memory:``, which says no more than that."""
        return cls()

    @property
    def jobs(self) -> list[JobMessage]:
        """The jobs that were put, in order, each once."""
        with self._lock:
            return list(self._messages.values())

    def put(self, job: JobMessage) -> bool:
        """Keep the job; False if this very job is known already.

        Raises:
            IdReused: its id belongs to another job.
            QueueFull: as many jobs wait as are allowed.
        """
        with self._lock:
            known = self._messages.get(job.id)
            if known is not None:
                if known.fingerprint != job.fingerprint:
                    raise IdReused(job.id)
                return False
            self._check_room()
            self._messages[job.id] = job
            self._statuses[job.id] = _new_status(job, self._now())
            return True

    def find_job(self, id: str) -> JobStatus | None:
        """What is known of a job, None for an unknown id."""
        with self._lock:
            return self._statuses.get(id)

    def cancel_job(self, id: str) -> JobStatus | None:
        """Cancel a job that waits, or ask a running one to stop; a finished one stays."""
        with self._lock:
            status = self._statuses.get(id)
            if status is None or status.finished:
                return status
            if status.state == "running":
                status = replace(status, cancel_requested=True)
            else:
                status = replace(
                    status,
                    state="cancelled",
                    cancel_requested=True,
                    finished_at=_milliseconds(self._now()),
                )
            self._statuses[id] = status
            return status

    def workers(self) -> None:
        """None: nobody works on these jobs."""
        return

    def set_status(self, status: JobStatus) -> None:
        """Make this the status of its job, as a worker would; the job need not be known."""
        with self._lock:
            self._statuses[status.id] = status

    def _check_room(self) -> None:
        waiting = sum(
            status.state in ("queued", "scheduled") for status in self._statuses.values()
        )
        if self._max_jobs is not None and waiting >= self._max_jobs:
            raise QueueFull(f"{waiting} jobs wait already")


def _new_status(job: JobMessage, now: datetime) -> JobStatus:
    created_at = _milliseconds(now)
    return JobStatus(
        id=job.id,
        job=job.job,
        queue=job.queue,
        state="scheduled" if job.delay > 0 else "queued",
        created_at=created_at,
        available_at=_milliseconds(created_at + timedelta(seconds=job.delay)),
    )


def _milliseconds(time: datetime) -> datetime:
    return time.replace(microsecond=time.microsecond // 1000 * 1000)
