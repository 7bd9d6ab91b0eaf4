"""Running a handler in a unit test."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from ..context import JobContext, running
from ..errors import BatchClosed
from ..jobs import Job
from ..names import derived_id, new_id
from ..status import BatchStatus, Progress

__all__ = ["RecordedJob", "Recorder", "job_context"]


@dataclass(slots=True)
class Recorder:
    """Keeps what a handler reports.

    Attributes:
        job_id: the job that it runs for.
        status: that job's batch, None without one.
        reported: its progress, in order.
        added: the jobs that it added to its batch, in order, with the ids they get there.
        cancelled: whether the handler is asked to stop.
    """

    job_id: str
    status: BatchStatus | None = None
    reported: list[Progress] = field(default_factory=list)
    added: list[Job] = field(default_factory=list)
    cancelled: bool = False

    def report_progress(self, done: int, total: int) -> None:
        """Keep the progress."""
        self.reported.append(Progress(done, total))

    def cancel_requested(self) -> bool:
        """Whether the handler is asked to stop."""
        return self.cancelled

    def batch(self) -> BatchStatus | None:
        """The batch, which grows with what is added."""
        return self.status

    def add_to_batch(self, jobs: Sequence[Job]) -> tuple[str, ...]:
        """Keep the jobs.

        Raises:
            BatchClosed: there is no batch, or it is finished.
        """
        if self.status is None or self.status.finished:
            raise BatchClosed("there is no batch that takes more jobs: give job_context() one")
        first = len(self.added)
        new = [
            replace(job, id=derived_id((self.job_id, str(position))))
            for position, job in enumerate(jobs, first)
        ]
        self.added += new
        total, pending = self.status.total + len(new), self.status.pending + len(new)
        self.status = replace(self.status, total=total, pending=pending)
        return tuple(job.id for job in new)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedJob(JobContext):
    """The current job of a test.

    Attributes:
        reporter: what the handler reported; set its ``cancelled`` to ask it to stop.
    """

    reporter: Recorder

    @property
    def reported(self) -> list[Progress]:
        """The progress that the handler reported, in order."""
        return self.reporter.reported

    @property
    def added(self) -> list[Job]:
        """The jobs that the handler added to its batch, in order, with the ids they get."""
        return self.reporter.added


@contextmanager
def job_context(
    *,
    id: str | None = None,
    name: str = "test",
    queue: str = "default",
    attempt: int = 1,
    tries: int = 1,
    batch_id: str | None = None,
    batch: BatchStatus | None = None,
    resources: object = None,
    cancel_requested: bool = False,
) -> Iterator[RecordedJob]:
    """Make ``current_job()`` work as long as the block runs.

    Args:
        id: the job's id; None for a fresh one.
        name: the name it was dispatched under.
        queue: the queue it came from.
        attempt: which try this is, from 1.
        tries: how many there are.
        batch_id: the batch it belongs to; where that alone is given, it runs this one job.
        batch: that batch as it is now, and so its id.
        resources: what the application's ``lifespan`` would have yielded.
        cancel_requested: whether the handler is asked to stop.
    """
    job_id = new_id() if id is None else id
    if batch is None and batch_id is not None:
        batch = _batch_of_one(batch_id)
    job = RecordedJob(
        id=job_id,
        name=name,
        queue=queue,
        attempt=attempt,
        tries=tries,
        batch_id=None if batch is None else batch.id,
        resources=resources,
        reporter=Recorder(job_id, batch, cancelled=cancel_requested),
    )
    with running(job):
        yield job


def _batch_of_one(id: str) -> BatchStatus:
    return BatchStatus(
        id=id,
        state="running",
        total=1,
        pending=1,
        succeeded=0,
        failed=0,
        cancelled=0,
        created_at=datetime.now(UTC),
    )
