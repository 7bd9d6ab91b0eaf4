"""Keeps the file from growing: removes old jobs, and gives the pages they leave back.

Every step is a short transaction, so that nobody waits long for the write lock. Failed jobs
are kept until somebody retries or forgets them.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

from dispatcher_core.errors import QueueUnavailable

from .database import Database, now_ms
from .leading import leading

__all__ = [
    "GIVE_WAY",
    "LEAST_RETENTION",
    "Pruner",
    "Step",
    "batch_step",
    "free_step",
    "prune_step",
    "repeated",
]

LEAST_RETENTION = 3600.0
"""Seconds for which a finished job is kept: a repeated request must find it, or it runs twice."""
GIVE_WAY = 0.01
"""Seconds between two steps of one call: others can write meanwhile."""

_MOST_ROWS = 500
_LONGEST_STEP = 0.005  # seconds, but at least one row: those with big payloads take long
_PAGES_OF_A_STEP = 250  # about what it writes: four steps, then a checkpoint
_KEPT_PAGES = 512  # left free for the jobs to come, which would make the file grow again

_EVERY = 60.0
_AGAIN = 0.1

# The jobs of a batch go when the batch is as old: until then it can be asked for them.
_OLD = f"""
SELECT seq FROM job WHERE state IN ('succeeded', 'cancelled') AND finished_at <= ?
AND NOT EXISTS (SELECT 1 FROM batch WHERE batch.id = job.batch_id
                AND (batch.finished_at IS NULL OR batch.finished_at > ?))
ORDER BY finished_at LIMIT {_MOST_ROWS}
"""
_OLD_BATCHES = f"""
DELETE FROM batch WHERE id IN (
    SELECT id FROM batch WHERE finished_at <= ? AND NOT EXISTS (
        SELECT 1 FROM job WHERE batch_id = batch.id AND callback_delay IS NULL)
    ORDER BY finished_at LIMIT {_MOST_ROWS})
"""
_OLD_ACCEPTED = f"""
DELETE FROM accepted_batch WHERE id IN (
    SELECT id FROM accepted_batch AS old WHERE created_at <= ?
    AND NOT EXISTS (SELECT 1 FROM batch WHERE batch.id = old.id)
    ORDER BY created_at LIMIT {_MOST_ROWS})
"""


class Step(NamedTuple):
    """What one step did.

    Attributes:
        removed: how many rows or pages it removed.
        more: whether more is left for another step.
    """

    removed: int
    more: bool


def prune_step(database: Database, before: int) -> Step:
    """Remove some jobs that succeeded or were cancelled, the oldest first.

    Args:
        database: the queue's file.
        before: only what finished until then, in milliseconds since 1970.

    Raises:
        QueueUnavailable: the file cannot be written for now.
    """
    removed = 0
    with database.write(_PAGES_OF_A_STEP) as connection:
        rows = connection.execute(_OLD, (before, before)).fetchall()
        until = time.monotonic() + _LONGEST_STEP
        while removed < len(rows) and (not removed or time.monotonic() < until):
            connection.execute("DELETE FROM job WHERE seq = ?", rows[removed])
            removed += 1
    return Step(removed, removed == _MOST_ROWS or removed < len(rows))


def batch_step(database: Database, before: int) -> Step:
    """Remove some batches whose jobs are all gone, and what is remembered of old requests.

    Args:
        database: the queue's file.
        before: only what finished until then, in milliseconds since 1970.

    Raises:
        QueueUnavailable: the file cannot be written for now.
    """
    with database.write(_PAGES_OF_A_STEP) as connection:
        counts = [
            connection.execute(statement, (before,)).rowcount
            for statement in (_OLD_BATCHES, _OLD_ACCEPTED)
        ]
    return Step(sum(counts), _MOST_ROWS in counts)


def free_step(database: Database) -> Step:
    """Cut some pages that nothing uses off the end of the file, which a checkpoint then shortens.

    Raises:
        QueueUnavailable: the file cannot be written for now.
    """
    freed = 0
    with database.write(_PAGES_OF_A_STEP) as connection:
        (free,) = connection.execute("PRAGMA freelist_count").fetchone()
        until = time.monotonic() + _LONGEST_STEP
        while freed < free - _KEPT_PAGES and (not freed or time.monotonic() < until):
            # Python runs this statement up to its first page only, whatever number it is given.
            connection.execute("PRAGMA incremental_vacuum(1)")
            freed += 1
    return Step(freed, freed < free - _KEPT_PAGES)


def repeated(step: Callable[[], Step]) -> int:
    """Do steps until nothing is left, and let others write in between.

    Returns:
        How much they removed together.
    """
    total = 0
    while True:
        removed, more = step()
        total += removed
        if not more:
            return total
        time.sleep(GIVE_WAY)


class Pruner:
    """Prunes a queue's file now and then, unless another process is at it.

    Args:
        database: the queue's file.
        retention: seconds for which finished jobs are kept.

    Attributes:
        due: when the next step is to be done, on the monotonic clock.
    """

    def __init__(self, database: Database, retention: float) -> None:
        self.due = 0.0
        self._database = database
        self._retention = round(retention * 1000)

    def do_what_is_due(self) -> None:
        """Do one step, if it is time for one.

        Raises:
            QueueUnavailable: the file cannot be written for now. The next step is due later.
        """
        if time.monotonic() < self.due:
            return
        self.due = time.monotonic() + _EVERY
        if self._step():
            self.due = time.monotonic() + _AGAIN

    def _step(self) -> bool:
        """Whether more is left to do."""
        lock = self._database.files.prune_lock
        try:
            with leading(lock) as leads:
                before = now_ms() - self._retention
                return leads and (
                    prune_step(self._database, before).more
                    or batch_step(self._database, before).more
                    or free_step(self._database).more
                )
        except OSError as error:
            raise QueueUnavailable(f"{lock} cannot be opened: {error.strerror}") from None
