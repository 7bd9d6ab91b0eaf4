"""Batches: their counters, their state, and the callbacks that come due.

All of it happens in the transaction in which a job of the batch ends. So the counters always add
up, and a callback, which is a job that waits without a time, comes due exactly once.
"""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self

from dispatcher_core.batch_wire import BatchMessage
from dispatcher_core.errors import BatchClosed, IdReused
from dispatcher_core.status import BatchState, BatchStatus

from .insertion import Row, insert_all, insert_unless_known
from .rows import optional_time, time_of

__all__ = ["accepted", "add_jobs", "cancel", "count_ended", "find", "insert"]

_COLUMNS = (
    "id, allow_failures, total, pending, succeeded, failed, cancelled, cancel_requested,"
    " then_id, catch_id, finally_id, created_at, finished_at"
)
_FIND = f"SELECT {_COLUMNS} FROM batch WHERE id = ?"
_FAILED = """
SELECT id FROM job WHERE batch_id = ? AND callback_delay IS NULL AND state = 'failed'
ORDER BY seq LIMIT 100
"""
_COUNT = {
    state: f"UPDATE batch SET pending = pending - ?, {state} = {state} + ? WHERE id = ?"
    for state in ("succeeded", "failed", "cancelled")
}
_COUNT_UNLESS_LAST = {state: f"{count} AND pending > 1" for state, count in _COUNT.items()}
_ADD = "UPDATE batch SET total = total + ?, pending = pending + ? WHERE id = ?"
_INSERT = f"""
INSERT INTO batch (id, allow_failures, total, pending, then_id, catch_id, finally_id, created_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING {_COLUMNS}
"""
_ACCEPT = "INSERT INTO accepted_batch (id, fingerprint, ids, created_at) VALUES (?, ?, ?, ?)"
_ACCEPTED = "SELECT fingerprint, ids FROM accepted_batch WHERE id = ?"
_CANCEL_WAITING = """
UPDATE job SET state = 'cancelled', cancel_requested = 1, finished_at = ?
WHERE batch_id = ? AND callback_delay IS NULL AND state IN ('queued', 'scheduled')
"""
_ASK_RUNNING = """
UPDATE job SET cancel_requested = 1
WHERE batch_id = ? AND callback_delay IS NULL AND state = 'running'
"""
_ASK = f"""
UPDATE batch SET cancel_requested = 1 WHERE id = ? AND finished_at IS NULL RETURNING {_COLUMNS}
"""
_MAKE_DUE = """
UPDATE job SET state = CASE WHEN callback_delay > 0 THEN 'scheduled' ELSE 'queued' END,
               available_at = ? + callback_delay
WHERE id = ? AND state = 'scheduled' AND available_at IS NULL
RETURNING queue
"""
_DROP = """
UPDATE job SET state = 'cancelled', finished_at = ?
WHERE id = ? AND state = 'scheduled' AND available_at IS NULL
"""


class _Batch(NamedTuple):
    """A row of the batch table."""

    id: str
    allow_failures: int
    total: int
    pending: int
    succeeded: int
    failed: int
    cancelled: int
    cancel_requested: int
    then_id: str | None
    catch_id: str | None
    finally_id: str | None
    created_at: int
    finished_at: int | None

    @property
    def state(self) -> BatchState:
        """The state that its counters stand for."""
        if self.finished_at is None:
            return "running"
        if self.cancel_requested:
            return "cancelled"
        if self.allow_failures:
            return "succeeded"
        if self.failed:
            return "failed"
        return "cancelled" if self.cancelled else "succeeded"

    @property
    def stopped(self) -> bool:
        """Whether none of its jobs is to start any more."""
        return bool(self.cancel_requested or (self.failed and not self.allow_failures))

    @property
    def why_closed(self) -> str:
        """Why it takes no more jobs, in words."""
        if self.finished_at is not None:
            return "is finished"
        return "was cancelled" if self.cancel_requested else "has failed"

    @classmethod
    def found(cls, row: tuple[object, ...]) -> Self:
        """The row from its columns."""
        return cls._make(row)

    def status(self, failed_ids: Iterable[str]) -> BatchStatus:
        """The status that the row describes."""
        return BatchStatus(
            id=self.id,
            state=self.state,
            total=self.total,
            pending=self.pending,
            succeeded=self.succeeded,
            failed=self.failed,
            cancelled=self.cancelled,
            failed_ids=tuple(failed_ids),
            then_id=self.then_id,
            catch_id=self.catch_id,
            finally_id=self.finally_id,
            created_at=time_of(self.created_at),
            finished_at=optional_time(self.finished_at),
        )


def find(connection: sqlite3.Connection, id: str) -> BatchStatus | None:
    """What is known of a batch, None for an unknown id. Its size does not matter."""
    row = connection.execute(_FIND, (id,)).fetchone()
    if row is None:
        return None
    failed = connection.execute(_FAILED, (id,)).fetchall() if _Batch.found(row).failed else []
    return _Batch.found(row).status(each for (each,) in failed)


def accepted(
    connection: sqlite3.Connection, id: str, fingerprint: bytes
) -> tuple[str, ...] | None:
    """The ids of the jobs that were accepted for this very batch, None where it is new.

    Raises:
        IdReused: its id belongs to something else.
    """
    row = connection.execute(_ACCEPTED, (id,)).fetchone()
    if row is not None and row[0] == fingerprint:
        return tuple(json.loads(row[1]))
    job = connection.execute("SELECT 1 FROM job WHERE id = ?", (id,)).fetchone()
    if row is not None or job is not None:
        raise IdReused(id)
    return None


def insert(
    connection: sqlite3.Connection,
    batch: BatchMessage,
    fingerprint: bytes,
    rows: Sequence[Row],
    now: int,
) -> set[str]:
    """Insert a new batch with the rows of its jobs and callbacks, or a set of single jobs.

    Args:
        connection: in a write transaction.
        batch: the batch.
        fingerprint: that of the batch, which takes long to compute: not while others wait.
        rows: the rows of its jobs and callbacks.
        now: the time, in milliseconds since 1970.

    Returns:
        The queues of callbacks that are due at once, since the batch has no jobs.

    Raises:
        IdReused: the id of a job or callback belongs to something else.
    """
    insert_all(connection, rows)
    ids = json.dumps(batch.ids)
    connection.execute(_ACCEPT, (batch.id, fingerprint, ids, now))
    if not batch.should_batch:
        return set()
    total = len(batch.jobs)
    callbacks = (each and each.id for each in (batch.then, batch.catch, batch.finally_))
    values = (batch.id, batch.allow_failures, total, total, *callbacks, now)
    return _settle(connection, _Batch.found(connection.execute(_INSERT, values).fetchone()), now)


def count_ended(connection: sqlite3.Connection, id: str, state: str, now: int) -> set[str]:
    """Count one job of a batch that has just reached a final state.

    Returns:
        The queues of callbacks that came due, whose workers are to be woken.
    """
    if state != "failed" and _count_unless_last(connection, id, state):
        return set()  # nearly always: nothing hangs on this one
    _count(connection, id, state, 1)
    batch, woken = _found(connection, id), set()
    if state == "failed" and batch.failed == 1:
        woken |= _make_due(connection, batch.catch_id, now)
        if not batch.allow_failures:
            batch = _cancel_jobs(connection, batch, now)
    return woken | _settle(connection, batch, now)


def cancel(connection: sqlite3.Connection, id: str, now: int) -> set[str]:
    """Cancel what waits in a batch, and ask what runs to stop; a finished batch stays.

    Returns:
        The queues of callbacks that came due.
    """
    row = connection.execute(_ASK, (id,)).fetchone()
    if row is None:
        return set()
    return _settle(connection, _cancel_jobs(connection, _Batch.found(row), now), now)


def add_jobs(connection: sqlite3.Connection, id: str | None, rows: Sequence[Row]) -> None:
    """Add jobs to a batch, which then waits for those that are new.

    Raises:
        BatchClosed: there is no such batch, or it takes no more.
    """
    found = connection.execute(_FIND, (id,)).fetchone()
    if found is None:
        raise BatchClosed("the job belongs to no batch: dispatch the jobs instead")
    batch = _Batch.found(found)
    if batch.finished_at is not None or batch.stopped:
        raise BatchClosed(f"the batch {id} takes no more jobs: it {batch.why_closed}")
    count = insert_unless_known(connection, rows)
    connection.execute(_ADD, (count, count, id))


def _settle(connection: sqlite3.Connection, batch: _Batch, now: int) -> set[str]:
    """Finish the batch if nothing is pending: callbacks come due, or are dropped for good.

    Returns:
        The queues of callbacks that came due.
    """
    if batch.pending or batch.finished_at is not None:
        return set()
    connection.execute("UPDATE batch SET finished_at = ? WHERE id = ?", (now, batch.id))
    woken = _make_due(connection, batch.finally_id, now)
    if batch._replace(finished_at=now).state == "succeeded":
        woken |= _make_due(connection, batch.then_id, now)
    for callback in (batch.then_id, batch.catch_id):
        connection.execute(_DROP, (now, callback))
    return woken


def _count_unless_last(connection: sqlite3.Connection, id: str, state: str) -> bool:
    """Count a job that ended, and tell so; False where it is the last that was pending."""
    return connection.execute(_COUNT_UNLESS_LAST[state], (1, 1, id)).rowcount == 1


def _count(connection: sqlite3.Connection, id: str, state: str, count: int) -> None:
    """Count jobs that ended."""
    connection.execute(_COUNT[state], (count, count, id))


def _found(connection: sqlite3.Connection, id: str) -> _Batch:
    return _Batch.found(connection.execute(_FIND, (id,)).fetchone())


def _cancel_jobs(connection: sqlite3.Connection, batch: _Batch, now: int) -> _Batch:
    count = connection.execute(_CANCEL_WAITING, (now, batch.id)).rowcount
    connection.execute(_ASK_RUNNING, (batch.id,))
    _count(connection, batch.id, "cancelled", count)
    return _found(connection, batch.id)


def _make_due(connection: sqlite3.Connection, id: str | None, now: int) -> set[str]:
    return {queue for (queue,) in connection.execute(_MAKE_DUE, (now, id)).fetchall()}
