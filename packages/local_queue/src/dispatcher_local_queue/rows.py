"""Rows of the job table as the statuses that others see."""

import json
from datetime import UTC, datetime
from typing import NamedTuple

from dispatcher_core.status import JobError, JobState, JobStatus, Progress

__all__ = ["COLUMNS", "StatusRow", "optional_time", "time_of"]


class StatusRow(NamedTuple):
    """The columns that make up a status, in the order of :data:`COLUMNS`."""

    id: str
    name: str
    queue: str
    state: JobState
    attempt: int
    progress_done: int | None
    progress_total: int | None
    result: str | None
    error_code: str | None
    error_type: str | None
    error_message: str | None
    batch_id: str | None
    cancel_requested: int
    created_at: int
    available_at: int | None
    started_at: int | None
    finished_at: int | None

    def status(self) -> JobStatus:
        """The status that the row describes."""
        return JobStatus(
            id=self.id,
            job=self.name,
            queue=self.queue,
            state=self.state,
            attempt=self.attempt,
            progress=self._progress(),
            result=None if self.result is None else json.loads(self.result),
            error=self._error(),
            batch_id=self.batch_id,
            cancel_requested=bool(self.cancel_requested),
            created_at=time_of(self.created_at),
            available_at=optional_time(self.available_at),
            started_at=optional_time(self.started_at),
            finished_at=optional_time(self.finished_at),
        )

    def _progress(self) -> Progress | None:
        if self.progress_done is None or self.progress_total is None:
            return None
        return Progress(self.progress_done, self.progress_total)

    def _error(self) -> JobError | None:
        if self.error_code is None:
            return None
        return JobError(self.error_code, self.error_type or "", self.error_message or "")


COLUMNS = ", ".join(StatusRow._fields)


def time_of(milliseconds: int) -> datetime:
    """The aware time of milliseconds since 1970."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def optional_time(milliseconds: int | None) -> datetime | None:
    """The same, where there may be none."""
    return None if milliseconds is None else time_of(milliseconds)
