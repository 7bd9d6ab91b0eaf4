"""What a handler may know of the job that it runs."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

from .errors import NoCurrentJob
from .jobs import Job, each_job
from .status import BatchStatus

__all__ = ["JobContext", "JobReporter", "current_job", "running"]


class JobReporter(Protocol):
    """Where a running job's context reads and writes; the worker's queue provides it."""

    def report_progress(self, done: int, total: int) -> None:
        """Keep the progress of the running job."""

    def cancel_requested(self) -> bool:
        """Whether the running job was asked to stop."""

    def batch(self) -> BatchStatus | None:
        """The batch of the running job, None without one."""

    def add_to_batch(self, jobs: Sequence[Job]) -> tuple[str, ...]:
        """Add jobs to the batch of the running job; gives their ids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobContext:
    """The job that runs.

    Attributes:
        id: the job's id.
        name: the name it was dispatched under.
        queue: the queue it came from.
        attempt: which try this is, from 1.
        tries: how many there are.
        batch_id: the batch it belongs to, None without one.
        resources: what the application's ``lifespan`` yielded to this process.
        reporter: where progress goes.
    """

    id: str
    name: str
    queue: str
    attempt: int
    tries: int
    batch_id: str | None = None
    resources: object = None
    reporter: JobReporter

    @property
    def cancel_requested(self) -> bool:
        """Whether the job was asked to stop: then raise ``Cancelled`` where it is safe."""
        return self.reporter.cancel_requested()

    def report_progress(self, done: int, total: int) -> None:
        """Tell how far the job has come, in units of its own.

        Raises:
            ValueError: a number is negative, or no whole number.
        """
        for number in (done, total):
            if isinstance(number, bool) or not isinstance(number, int) or number < 0:
                raise ValueError(f"progress is counted in whole numbers from 0, not {number!r}")
        self.reporter.report_progress(done, total)

    def batch(self) -> BatchStatus | None:
        """The batch that the job belongs to, as it is now; None without one."""
        return self.reporter.batch()

    def add_to_batch(self, jobs: Iterable[Job]) -> tuple[str, ...]:
        """Add jobs to the batch that this job belongs to, which then waits for them too.

        Their ids are made from this job's id and their order, so that another attempt adds
        nothing twice.

        Returns:
            The ids, in order.

        Raises:
            BatchClosed: the job has no batch, or the batch is finished or cancelled.
            UnknownJob: a name that nothing is registered for here.
            InvalidPayload: a payload that does not fit its handler.
            InvalidJob: one of them is no ``Job``.
        """
        return self.reporter.add_to_batch(tuple(each_job(jobs)))


_current: ContextVar[JobContext] = ContextVar("dispatcher_job")


def current_job() -> JobContext:
    """The job that runs here.

    Raises:
        NoCurrentJob: none does; tests use ``dispatcher_core.testing.job_context``.
    """
    try:
        return _current.get()
    except LookupError:
        raise NoCurrentJob(
            "no job runs here; in a test, use dispatcher_core.testing.job_context()"
        ) from None


@contextmanager
def running(context: JobContext) -> Iterator[JobContext]:
    """Make a job the current one for as long as the block runs."""
    token = _current.set(context)
    try:
        yield context
    finally:
        _current.reset(token)
