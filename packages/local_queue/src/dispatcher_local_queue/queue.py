"""The queue as the receiver sees it: put, find, cancel."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from sqlite3 import Connection, Cursor
from typing import Self

from dispatcher_core.batch_wire import BatchMessage
from dispatcher_core.errors import ConfigError, IdReused, QueueUnavailable
from dispatcher_core.plugins import QUEUES, load_plugin
from dispatcher_core.status import BatchStatus, JobStatus
from dispatcher_core.urls import without_password
from dispatcher_core.wire import JobMessage, job_fingerprint

from . import batches
from .checkpoint import pages_for
from .database import Database, now_ms
from .groupcommit import GroupCommit
from .insertion import INSERT_ONE, insertion, new_callback, new_member, new_row, pages_of
from .registry import Registry
from .rows import COLUMNS, StatusRow
from .wakeup import Bells

__all__ = ["SQLiteQueue"]

_CANCEL_WAITING = """
UPDATE job SET state = 'cancelled', cancel_requested = 1, finished_at = ?
WHERE id = ? AND state IN ('queued', 'scheduled')
RETURNING CASE WHEN callback_delay IS NULL THEN batch_id END
"""
_MEANING = "SELECT name, payload, queue FROM job WHERE id = ?"
_TAKEN = """
SELECT EXISTS (SELECT 1 FROM job WHERE id = ?)
    OR EXISTS (SELECT 1 FROM accepted_batch WHERE id = ?)
"""
# Written so that both halves read nothing but an index, and no more of it than the limit.
_COUNT_WAITING = """
SELECT count(*) FROM (
    SELECT 1 FROM job WHERE state = 'queued'
    UNION ALL
    SELECT 1 FROM job WHERE state = 'scheduled' AND available_at IS NOT NULL
    LIMIT ?
)
"""
_ASK_RUNNING = "UPDATE job SET cancel_requested = 1 WHERE id = ? AND state = 'running'"


class SQLiteQueue:
    """A durable queue in one SQLite file.

    What :meth:`put` has returned for is on the disk. Safe for threads, processes and forks.

    Args:
        path: the file; it and the folder ``<path>.d`` beside it are made when needed,
            readable by their owner alone.
    """

    def __init__(self, path: str | Path) -> None:
        self._database = Database(Path(path), durable=True)
        self._bells = Bells(self._database.files)
        self._registry = Registry(self._database)
        self._group = GroupCommit(self._insert_one, self._insert)

    @classmethod
    def from_url(cls, url: str) -> Self:
        """The queue of ``sqlite:///relative/path`` or ``sqlite:////absolute/path``.

        Raises:
            ConfigError: the URL names no file.
        """
        return cls(path_of(url))

    def put(self, job: JobMessage) -> bool:
        """Keep the job durably; False if this very job is known already.

        Raises:
            IdReused: its id belongs to something else.
            QueueUnavailable: it could not be kept, for now.
        """
        new = self._group.add(job)
        if not new and self._known_fingerprint(job.id) != job.fingerprint:
            raise IdReused(job.id)
        return new

    def find_job(self, id: str) -> JobStatus | None:
        """What is known of a job, None for an unknown id.

        Raises:
            QueueUnavailable: the queue could not be read, for now.
        """
        with self._database.read() as connection:
            return _find(connection, id)

    def cancel_job(self, id: str) -> JobStatus | None:
        """Cancel a job that waits, or ask a running one to stop; a finished one stays.

        Raises:
            QueueUnavailable: the queue could not be written, for now.
        """
        now = now_ms()
        woken: set[str] = set()
        with self._database.write() as connection:
            for (batch_id,) in connection.execute(_CANCEL_WAITING, (now, id)).fetchall():
                if batch_id is not None:
                    woken = batches.count_ended(connection, batch_id, "cancelled", now)
            connection.execute(_ASK_RUNNING, (id,))
            status = _find(connection, id)
        self._wake(woken)
        return status

    def put_batch(self, batch: BatchMessage) -> tuple[str, ...] | None:
        """Keep a batch durably, all of it or nothing.

        Returns:
            None where it is new; the ids of the jobs that are kept for it, in order, where
            this very batch is known already.

        Raises:
            IdReused: its id, or that of a job or callback, belongs to something else.
            QueueUnavailable: it could not be kept, for now.
        """
        now, fingerprint = now_ms(), batch.fingerprint
        if batch.should_batch:
            rows = [new_member(job, now, batch.id) for job in batch.jobs]
            rows += [new_callback(job, now, batch.id) for job in batch.callbacks.values()]
        else:
            rows = [new_row(job, now) for job in batch.jobs]
        with self._database.write(pages_of(rows)) as connection:
            known = batches.accepted(connection, batch.id, fingerprint)
            if known is not None:
                return known
            woken = batches.insert(connection, batch, fingerprint, rows, now)
        self._wake(woken.union(job.queue for job in batch.jobs))
        return None

    def find_batch(self, id: str) -> BatchStatus | None:
        """What is known of a batch, None for an unknown id and for jobs kept singly.

        Raises:
            QueueUnavailable: the queue could not be read, for now.
        """
        with self._database.read() as connection:
            return batches.find(connection, id)

    def cancel_batch(self, id: str) -> BatchStatus | None:
        """Cancel the jobs of a batch that wait, and ask the running ones to stop.

        Raises:
            QueueUnavailable: the queue could not be written, for now.
        """
        with self._database.write() as connection:
            woken = batches.cancel(connection, id, now_ms())
            status = batches.find(connection, id)
        self._wake(woken)
        return status

    def workers(self) -> int:
        """How many worker processes are alive.

        Raises:
            QueueUnavailable: the queue could not be read, for now.
        """
        return sum(not worker.dead() for worker in self._registry.workers())

    def is_taken(self, id: str) -> bool:
        """Whether the id is that of a job, a batch, or jobs that were put together singly.

        Raises:
            QueueUnavailable: the queue could not be read, for now.
        """
        with self._database.read() as connection:
            (taken,) = connection.execute(_TAKEN, (id, id)).fetchone()
        return bool(taken)

    def waiting(self, limit: int) -> int:
        """How many jobs wait, counted no further than the limit; callbacks once they are due.

        Raises:
            QueueUnavailable: the queue could not be read, for now.
        """
        with self._database.read() as connection:
            (count,) = connection.execute(_COUNT_WAITING, (limit,)).fetchone()
        return int(count)

    def close(self) -> None:
        """Close what is open; a later use opens it anew."""
        self._database.close()
        self._bells.close()

    def _insert(self, jobs: Sequence[JobMessage]) -> Sequence[bool]:
        now = now_ms()
        rows = [new_row(job, now) for job in jobs]
        cursor = self._database.execute(*insertion(rows), pages_of(rows))
        self._wake({job.queue for job in jobs})
        if cursor.rowcount == len(rows):
            return [True] * len(rows)
        new = self._inserted(cursor)
        return [_taken(new, job.id) for job in jobs]

    def _insert_one(self, job: JobMessage) -> bool:
        # The same for one alone, written out: what is run between two waits for the disk is run
        # with cold caches, and costs several times as much as it seems to.
        row = new_row(job, now_ms())
        cursor = self._database.execute(INSERT_ONE, row, pages_for(len(row[-1])))
        self._bells.ring(job.queue)
        return cursor.rowcount == 1

    def _inserted(self, cursor: Cursor) -> set[str]:
        """The ids of the rows that a statement has inserted."""
        last = cursor.lastrowid or 0
        # Numbers are given without a gap.
        between = (last - cursor.rowcount, last)
        with self._database.read() as connection:
            found = connection.execute("SELECT id FROM job WHERE seq > ? AND seq <= ?", between)
            return {new for (new,) in found}

    def _wake(self, queues: Iterable[str]) -> None:
        for queue in queues:
            self._bells.ring(queue)

    def _known_fingerprint(self, id: str) -> bytes | None:
        """That of the job with this id, None where the id is that of a batch."""
        with self._database.read() as connection:
            row = connection.execute(_MEANING, (id,)).fetchone()
        if row is None and not self.is_taken(id):
            raise QueueUnavailable(f"the job {id} was forgotten while it was put again")
        # Few are asked for, so none is stored.
        return row and job_fingerprint(row[0], json.loads(row[1]), row[2])


def _find(connection: Connection, id: str) -> JobStatus | None:
    row = connection.execute(f"SELECT {COLUMNS} FROM job WHERE id = ?", (id,)).fetchone()
    return StatusRow._make(row).status() if row else None


def _taken(ids: set[str], id: str) -> bool:
    """Whether the id is in the set, out of which it is taken: it counts only once."""
    if id not in ids:
        return False
    ids.remove(id)
    return True


def path_of(url: str) -> Path:
    """The file that a ``sqlite:`` URL names.

    Raises:
        PluginNotFound: it is the URL of a queue that no installed package offers.
        ConfigError: it is that of another queue, or names no file.
    """
    path = url.removeprefix("sqlite:///")
    if path != url and path.strip("/"):
        return Path(path)
    problem = "names no file"
    scheme, colon, _ = url.partition(":")
    if colon and scheme != "sqlite":
        load_plugin(QUEUES, scheme)
        problem = "is that of another queue, and only SQLite is served here"
    raise ConfigError(
        f"the queue URL {without_password(url)!r} {problem}: write DISPATCHER_QUEUE_URL as"
        " sqlite:///relative/path or sqlite:////absolute/path"
    )
