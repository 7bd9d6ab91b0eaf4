"""Keeps the file from growing: removes old jobs, and gives the pages they leave back.

Every step is a short transaction, so that nobody waits long for the write lock. Failed jobs
are kept until somebody retries or forgets them.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from dispatcher_core.errors import QueueUnavailable

from .database import Database, now_ms
from .leading import leading

__all__ = [
    "GIVE_WAY",
    "LEAST_RETENTION",
    "Pruner",
    "Step",
    "Sweep",
    "batch_step",
    "free_step",
    "pruning",
    "repeated",
]

LEAST_RETENTION = 3600.0
"""Seconds for which a finished job is kept: a repeated request must find it, or it runs twice."""
GIVE_WAY = 0.01
"""Seconds between two steps of one call: others can write meanwhile."""

_MOST_ROWS = 500
_LONGEST_STEP = 0.005  # seconds, but at least one row: those with big payloads take long
_PAGES_OF_A_STEP = 250  # about what it takes to free as many
_KEPT_PAGES = 1024  # left free for the jobs to come, which would make the file grow again

_LEAST_PAUSE = 60.0
_PAUSES = 100  # while a job is kept: it may overstay by one of them
_AGAIN = 0.1

_ENDED = "state IN ('succeeded', 'cancelled') AND finished_at <= ?"
# The jobs of a batch go when the batch is as old: until then it can be asked for them.
_SEEN = f"""
SELECT seq, created_at > ?, {_ENDED} AND NOT EXISTS (
    SELECT 1 FROM batch WHERE batch.id = job.batch_id
    AND (batch.finished_at IS NULL OR batch.finished_at > ?))
FROM job WHERE seq > ? ORDER BY seq LIMIT {_MOST_ROWS}
"""
# An operator may have had it run again meanwhile.
_REMOVE = f"DELETE FROM job WHERE seq = ? AND {_ENDED}"
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


class Sweep:
    """A walk through the jobs, in the order in which they came, that removes the old ones.

    An index of the finished ones would show them at once. But every job that ends would have
    to write it, at a sixth of what its end costs; and a walk is made once in a long while.

    Args:
        database: the queue's file.
        before: tells, at each step, until when a job must have finished to go, in milliseconds
            since 1970. Jobs that failed stay.
    """

    def __init__(self, database: Database, before: Callable[[], int]) -> None:
        self._database = database
        self._before = before
        self._seen = 0

    def step(self) -> Step:
        """Go on to the next old jobs, but not for long, and remove them.

        Raises:
            QueueUnavailable: the file cannot be read or written for now.
        """
        before, until = self._before(), time.monotonic() + _LONGEST_STEP
        old, more = self._look(before)
        while more and not old and time.monotonic() < until:
            old, more = self._look(before)
        removed = self._remove(old, before) if old else []
        if len(removed) < len(old):
            self._seen, more = old[len(removed) - 1], True
        return Step(sum(removed), more)

    def _look(self, before: int) -> tuple[list[int], bool]:
        """Which of the next jobs are old, and whether others may be."""
        with self._database.read() as connection:
            arguments = (before, before, before, self._seen)
            rows = connection.execute(_SEEN, arguments).fetchall()
        if rows:
            self._seen = rows[-1][0]
        # Jobs that came later did not end earlier. One alone may have come while the clock was
        # wrong, so it takes many of them to end the walk.
        more = len(rows) == _MOST_ROWS and not all(is_young for _, is_young, _ in rows)
        return [seq for seq, _, is_old in rows if is_old], more

    def _remove(self, jobs: Sequence[int], before: int) -> list[int]:
        """Remove the first of these jobs, and tell of each how many rows that were."""
        counts = []
        with self._database.write() as connection:
            until = time.monotonic() + _LONGEST_STEP
            for seq in jobs:
                counts.append(connection.execute(_REMOVE, (seq, before)).rowcount)
                if time.monotonic() >= until:
                    break
        return counts


def batch_step(database: Database, before: Callable[[], int]) -> Step:
    """Remove some batches whose jobs are all gone, and what is remembered of old requests.

    Args:
        database: the queue's file.
        before: tells until when they must have finished, in milliseconds since 1970.

    Raises:
        QueueUnavailable: the file cannot be written for now.
    """
    with database.write() as connection:
        counts = [
            connection.execute(statement, (before(),)).rowcount
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
        if removed:
            time.sleep(GIVE_WAY)


def pruning(database: Database, retention: float) -> list[Callable[[], Step]]:
    """What is to be repeated, one after the other, to remove all that is old.

    Args:
        database: the queue's file.
        retention: seconds for which finished jobs are kept.

    Returns:
        The steps that remove jobs, then those that remove batches, then those that free pages.
    """
    kept = round(retention * 1000)

    def before() -> int:
        # Asked for at each step: a clock that was wrong at the first must not rule the others.
        return now_ms() - kept

    return [
        Sweep(database, before).step,
        partial(batch_step, database, before),
        partial(free_step, database),
    ]


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
        self._retention = retention
        self._pause = max(_LEAST_PAUSE, retention / _PAUSES)
        self._left: list[Callable[[], Step]] = []

    def do_what_is_due(self) -> None:
        """Do one step, if it is time for one.

        Raises:
            QueueUnavailable: the file cannot be written for now. The next step is due later.
        """
        if time.monotonic() < self.due:
            return
        self.due = time.monotonic() + _LEAST_PAUSE
        lock = self._database.files.prune_lock
        try:
            with leading(lock) as leads:
                if leads:
                    self.due = time.monotonic() + self._step()
        except OSError as error:
            raise QueueUnavailable(f"{lock} cannot be opened: {error.strerror}") from None

    def _step(self) -> float:
        """Do a step, and tell how many seconds to wait for the next."""
        if not self._left:
            self._left = pruning(self._database, self._retention)
        if not self._left[0]().more:
            del self._left[0]
        return _AGAIN if self._left else self._pause
