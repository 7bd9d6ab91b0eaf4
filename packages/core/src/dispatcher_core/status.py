"""What is known of a job, and of a backend, from the outside."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

__all__ = [
    "BATCH_STATES",
    "FINISHED",
    "STATES",
    "BatchState",
    "BatchStatus",
    "JobError",
    "JobState",
    "JobStatus",
    "Pong",
    "Progress",
]

JobState = Literal["queued", "scheduled", "running", "succeeded", "failed", "cancelled"]
BatchState = Literal["running", "succeeded", "failed", "cancelled"]

STATES: frozenset[str] = frozenset(get_args(JobState))
BATCH_STATES: frozenset[str] = frozenset(get_args(BatchState))
FINISHED: frozenset[str] = frozenset(("succeeded", "failed", "cancelled"))


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job has come, in units of its own.

    Attributes:
        done: units done.
        total: units in all.
    """

    done: int
    total: int

    @property
    def percent(self) -> int:
        """The share done, 0 to 100, rounded down; 0 where the total is 0."""
        return min(100, max(0, self.done * 100 // self.total)) if self.total > 0 else 0


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job failed.

    Attributes:
        code: ``exception``, ``timed-out``, ``worker-died``, ``unknown-job`` or
            ``invalid-payload``.
        type: the name of the exception's class, empty where there was none.
        message: at most 1 KiB of text. Tracebacks stay in the backend's log.
    """

    code: str
    type: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """A job as its queue knows it. Times are aware, in UTC, exact to the millisecond.

    Attributes:
        id: the job's id.
        job: the name it was dispatched under.
        queue: the queue it is in.
        state: ``queued``, ``scheduled``, ``running``, ``succeeded``, ``failed`` or
            ``cancelled``.
        attempt: how many tries were used up, the running one included.
        progress: what the handler last reported.
        result: what the handler returned; None until then, and where that was no JSON.
        error: why it failed, or why its last try did.
        batch_id: the batch it belongs to.
        cancel_requested: whether a running job was asked to stop.
        created_at: when the backend accepted it.
        available_at: when it may start; None for a callback that is not yet due.
        started_at: when its last try began.
        finished_at: when it reached its final state.
    """

    id: str
    job: str
    queue: str
    state: JobState
    attempt: int = 0
    progress: Progress | None = None
    result: object = None
    error: JobError | None = None
    batch_id: str | None = None
    cancel_requested: bool = False
    created_at: datetime
    available_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def finished(self) -> bool:
        """Whether the state is final."""
        return self.state in FINISHED


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchStatus:
    """A batch as its queue knows it. Times are aware, in UTC, exact to the millisecond.

    Attributes:
        id: the batch's id.
        state: ``running`` until nothing is pending, then ``succeeded``, ``failed`` or
            ``cancelled``.
        total: how many jobs it has, those that were added included.
        pending: how many have not ended.
        succeeded: how many succeeded.
        failed: how many failed for good.
        cancelled: how many were cancelled.
        failed_ids: the first hundred ids of those that failed.
        then_id: the job that runs when all succeeded; None without one.
        catch_id: the job that runs at the first final failure; None without one.
        finally_id: the job that runs when nothing is pending any more; None without one.
        created_at: when the backend accepted it.
        finished_at: when nothing was pending any more.
    """

    id: str
    state: BatchState
    total: int
    pending: int
    succeeded: int
    failed: int
    cancelled: int
    failed_ids: tuple[str, ...] = ()
    then_id: str | None = None
    catch_id: str | None = None
    finally_id: str | None = None
    created_at: datetime
    finished_at: datetime | None = None

    @property
    def progress(self) -> Progress:
        """How many of its jobs have ended."""
        return Progress(self.total - self.pending, self.total)

    @property
    def finished(self) -> bool:
        """Whether nothing is pending any more."""
        return self.state != "running"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pong:
    """What a backend answered to a ping.

    Attributes:
        reachable: whether anything answered.
        secret_accepted: whether it accepted our signature.
        clock_skew: seconds by which its clock is ahead of ours, None if it does not tell.
        workers: worker processes alive, None where the queue cannot know.
        versions: versions of the wire format that it speaks.
        error: what went wrong, in words, None when nothing did.
    """

    reachable: bool
    secret_accepted: bool
    clock_skew: float | None = None
    workers: int | None = None
    versions: tuple[int, ...] = ()
    error: str | None = None
