"""The worker's side of the queue: claim a job, end it, claim the next.

Every claim has a token of its own, and every later write names it. So a worker that lost its
job, because it was taken for dead or overran its timeout, can write nothing any more.
"""

import random
import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from dispatcher_core.status import BatchStatus
from dispatcher_core.wire import JobMessage

from . import batches
from .checkpoint import pages_for
from .database import Database, now_ms
from .endings import COUNTED_IN, Ending, Owned, write_ending
from .insertion import new_member, pages_of
from .wakeup import Bells

__all__ = ["Claim", "ClaimLost", "Claims"]

_PROMOTED_AT_ONCE = 200

_DUE = "SELECT 1 FROM job WHERE state = 'scheduled' AND available_at <= ? LIMIT 1"
_PROMOTE = f"""
UPDATE job SET state = 'queued' WHERE seq IN (
    SELECT seq FROM job WHERE state = 'scheduled' AND available_at <= ?
    ORDER BY available_at LIMIT {_PROMOTED_AT_ONCE})
"""
# NULL for a paused queue: then the search for its jobs ends before it looks at one.
_OPEN_QUEUE = "(SELECT ? WHERE NOT EXISTS (SELECT 1 FROM paused_queue WHERE name = ?))"
_FIRST = f"""
SELECT seq, id, name, queue, attempt + 1, kills, batch_id, {COUNTED_IN}, payload, available_at,
       unknown_since
FROM job WHERE queue = {_OPEN_QUEUE} AND state = 'queued' ORDER BY priority DESC, seq LIMIT 1
"""
_CLAIM = """
UPDATE job SET state = 'running', attempt = attempt + 1, worker = ?, token = ?, started_at = ?,
               progress_done = NULL, progress_total = NULL
WHERE seq = ?
"""
_WAITS = f"SELECT 1 FROM job WHERE queue = {_OPEN_QUEUE} AND state = 'queued' LIMIT 1"
_OWNED = "SELECT 1 FROM job WHERE seq = ? AND token = ? AND state = 'running'"
# Jumps from queue to queue along the index, however many jobs wait in each.
_QUEUES = """
WITH RECURSIVE found (queue) AS (
    SELECT min(queue) FROM job WHERE state = 'queued'
    UNION ALL
    SELECT (SELECT min(queue) FROM job WHERE state = 'queued' AND queue > found.queue)
    FROM found WHERE found.queue IS NOT NULL)
SELECT queue FROM found WHERE queue IS NOT NULL
"""


class Claim(NamedTuple):
    """A job that this worker owns until it ends it. Times are milliseconds since 1970."""

    token: int
    started_at: int
    seq: int
    id: str
    name: str
    queue: str
    attempt: int
    kills: int
    batch_id: str | None
    counted_in: str | None
    payload: str
    available_at: int
    unknown_since: int | None


class ClaimLost(Exception):
    """The worker does not own its job any more: it must leave without another write."""


class Claims:
    """Claims jobs for one worker.

    Args:
        database: the queue's file.
        worker_id: the worker, whose row exists.
        bells: wake other workers when there is more to do.
    """

    def __init__(self, database: Database, worker_id: str, bells: Bells) -> None:
        self._database = database
        self._worker_id = worker_id
        self._bells = bells
        # Tokens must differ, not be secret; and a handler may seed the module's own numbers.
        self._random = random.Random()

    def claim(self, queues: Sequence[str]) -> Claim | None:
        """The next job of the first of these queues that has one and is not paused."""
        with self._database.write() as connection:
            return self._next(connection, queues, now_ms())

    def end_and_claim(
        self, claim: Claim, ending: Ending, queues: Sequence[str]
    ) -> tuple[Ending, Claim | None]:
        """End a job and claim the next one, in one transaction.

        Returns:
            The ending that was written, and the next job.

        Raises:
            ClaimLost: the worker does not own the job; nothing was written.
        """
        # Both ends of a run write the whole row anew. The next job's may be as long.
        characters = 2 * len(claim.payload) + len(ending.result or "")
        with self._database.write(pages_for(characters)) as connection:
            now = now_ms()
            owned = Owned(claim.seq, claim.token, claim.counted_in)
            written = write_ending(connection, owned, ending, now)
            if written is None:
                raise ClaimLost
            following = self._next(connection, queues, now)
        for queue in written.woken:
            self._bells.ring(queue)
        return written.ending, following

    def work_waits(self, queues: Sequence[str]) -> bool:
        """Whether there is something to claim; takes no write lock."""
        with self._database.read() as connection:
            return any(
                connection.execute(_WAITS, (queue, queue)).fetchone() for queue in queues
            ) or _some_are_due(connection, now_ms())

    def next_due(self) -> int | None:
        """When the next scheduled job may start, in milliseconds since 1970."""
        with self._database.read() as connection:
            (due,) = connection.execute(
                "SELECT min(available_at) FROM job"
                " WHERE state = 'scheduled' AND available_at IS NOT NULL"
            ).fetchone()
        return None if due is None else int(due)

    def queues(self) -> list[str]:
        """Every queue in which jobs wait, by name."""
        with self._database.read() as connection:
            return [queue for (queue,) in connection.execute(_QUEUES)]

    def report_progress(self, claim: Claim, done: int, total: int) -> None:
        """Keep the progress of a running job."""
        with self._database.write() as connection:
            connection.execute(
                "UPDATE job SET progress_done = ?, progress_total = ? WHERE seq = ? AND token = ?",
                (done, total, claim.seq, claim.token),
            )

    def cancel_requested(self, claim: Claim) -> bool:
        """Whether a running job was asked to stop."""
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT cancel_requested FROM job WHERE seq = ?", (claim.seq,)
            ).fetchone()
        return bool(row and row[0])

    def batch(self, claim: Claim) -> BatchStatus | None:
        """The batch of a running job, None without one."""
        if claim.batch_id is None:
            return None
        with self._database.read() as connection:
            return batches.find(connection, claim.batch_id)

    def add_to_batch(self, claim: Claim, jobs: Sequence[JobMessage]) -> None:
        """Add jobs to the batch of a running job; those that are known already stay.

        Raises:
            BatchClosed: the job has no batch, or the batch takes no more.
            ClaimLost: the worker does not own the job any more.
        """
        now = now_ms()
        rows = [new_member(job, now, claim.batch_id) for job in jobs]
        with self._database.write(pages_of(rows)) as connection:
            if not connection.execute(_OWNED, (claim.seq, claim.token)).fetchone():
                raise ClaimLost
            batches.add_jobs(connection, claim.batch_id, rows)
        for queue in {job.queue for job in jobs}:
            self._bells.ring(queue)

    def _next(
        self, connection: sqlite3.Connection, queues: Sequence[str], now: int
    ) -> Claim | None:
        if _some_are_due(connection, now):
            connection.execute(_PROMOTE, (now,))
        for queue in queues:
            # Two statements cost less than one that also returns what it changed.
            row = connection.execute(_FIRST, (queue, queue)).fetchone()
            if row:
                claim = Claim(self._random.getrandbits(62), now, *row)
                connection.execute(_CLAIM, (self._worker_id, claim.token, now, claim.seq))
                return claim
        return None


def _some_are_due(connection: sqlite3.Connection, now: int) -> bool:
    return connection.execute(_DUE, (now,)).fetchone() is not None
