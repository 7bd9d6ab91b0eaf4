"""How one run of a job ends, and the one statement that writes it."""

import sqlite3
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

from dispatcher_core.status import FINISHED, JobError, JobState

from .batches import count_ended

__all__ = ["COUNTED_IN", "Ending", "Owned", "Written", "write_ending"]

COUNTED_IN = "CASE WHEN callback_delay IS NULL THEN batch_id END"
"""SQL for the batch that counts how a job ends: a callback belongs to one, but is not counted."""

_WRITE = """
UPDATE job SET state = ?, available_at = coalesce(?, available_at), finished_at = ?,
               result = ?, error_code = ?, error_type = ?, error_message = ?,
               attempt = attempt - ?, kills = kills + ?, unknown_since = ?,
               worker = NULL, token = NULL, doom = NULL, doom_delay = NULL
WHERE seq = ? AND token = ? AND state = 'running'
"""
_CANCEL_REQUESTED = "SELECT 1 FROM job WHERE seq = ? AND cancel_requested"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How one run of a job ends.

    Attributes:
        state: the job's next state.
        delay_ms: milliseconds until it may start again; None for now or never.
        result: what the handler returned, as JSON text.
        error: why this run failed.
        counted: whether the run used up a try.
        killed: whether its worker died under it.
        unknown_since: when its name was first found to be unknown, in ms since 1970.
    """

    state: JobState
    delay_ms: int | None = None
    result: str | None = None
    error: JobError | None = None
    counted: bool = True
    killed: bool = False
    unknown_since: int | None = None

    @classmethod
    def failed(cls, error: JobError) -> Self:
        """The job failed for good."""
        return cls(state="failed", error=error)

    @classmethod
    def retried(cls, error: JobError, delay_ms: int) -> Self:
        """This try failed; another follows."""
        return cls(state="scheduled", error=error, delay_ms=delay_ms)

    @classmethod
    def put_back(cls, *, killed: bool) -> Self:
        """The run ended through no fault of the job, which is to start again."""
        return cls(state="queued", counted=False, killed=killed)

    def once_cancelled(self) -> Self:
        """What it is instead, when the job was asked to stop: it does not start again."""
        if self.state in FINISHED:
            return self
        return replace(
            self, state="failed" if self.counted and self.error else "cancelled", delay_ms=None
        )


class Owned(NamedTuple):
    """A run of a job, and who may end it.

    Attributes:
        seq: the job's number.
        token: that of the claim; nobody else may write.
        counted_in: the batch that counts how the job ends.
    """

    seq: int
    token: int
    counted_in: str | None


class Written(NamedTuple):
    """What was written when a run ended.

    Attributes:
        ending: the ending, which differs where the job was asked to stop.
        woken: the queues in which callbacks of its batch came due.
    """

    ending: Ending
    woken: set[str]


def write_ending(
    connection: sqlite3.Connection, owned: Owned, ending: Ending, now: int
) -> Written | None:
    """End the run in the transaction of the connection, and count it in its batch.

    Returns:
        What was written; None where the run does not own the job any more.
    """
    if ending.state not in FINISHED and _cancel_requested(connection, owned.seq):
        ending = ending.once_cancelled()
    error = ending.error
    row = (
        ending.state,
        None if ending.delay_ms is None else now + ending.delay_ms,
        now if ending.state in FINISHED else None,
        ending.result,
        error and error.code,
        error and error.type,
        error and error.message,
        0 if ending.counted else 1,
        1 if ending.killed else 0,
        ending.unknown_since,
        owned.seq,
        owned.token,
    )
    if connection.execute(_WRITE, row).rowcount != 1:
        return None
    if owned.counted_in is None or ending.state not in FINISHED:
        return Written(ending, set())
    return Written(ending, count_ended(connection, owned.counted_in, ending.state, now))


def _cancel_requested(connection: sqlite3.Connection, seq: int) -> bool:
    return connection.execute(_CANCEL_REQUESTED, (seq,)).fetchone() is not None
