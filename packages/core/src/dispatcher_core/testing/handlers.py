"""Running a handler in a unit test."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..context import JobContext, running
from ..names import new_id
from ..status import Progress

__all__ = ["RecordedJob", "Recorder", "job_context"]


@dataclass(slots=True)
class Recorder:
    """Keeps what a handler reports.

    Attributes:
        reported: its progress, in order.
        cancelled: whether the handler is asked to stop.
    """

    reported: list[Progress] = field(default_factory=list)
    cancelled: bool = False

    def report_progress(self, done: int, total: int) -> None:
        """Keep the progress."""
        self.reported.append(Progress(done, total))

    def cancel_requested(self) -> bool:
        """Whether the handler is asked to stop."""
        return self.cancelled


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


@contextmanager
def job_context(
    *,
    id: str | None = None,
    name: str = "test",
    queue: str = "default",
    attempt: int = 1,
    tries: int = 1,
    batch_id: str | None = None,
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
        batch_id: the batch it belongs to.
        resources: what the application's ``lifespan`` would have yielded.
        cancel_requested: whether the handler is asked to stop.
    """
    job = RecordedJob(
        id=new_id() if id is None else id,
        name=name,
        queue=queue,
        attempt=attempt,
        tries=tries,
        batch_id=batch_id,
        resources=resources,
        reporter=Recorder(cancelled=cancel_requested),
    )
    with running(job):
        yield job
