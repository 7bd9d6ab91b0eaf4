"""The queue as the receiver sees it: put, find, cancel."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from dispatcher_core.errors import ConfigError, IdReused
from dispatcher_core.jsontext import dump
from dispatcher_core.status import JobStatus
from dispatcher_core.wire import JobMessage

from .checkpoint import PAGE_BYTES, USUAL_PAGES
from .database import Database, now_ms
from .groupcommit import GroupCommit
from .registry import Registry
from .rows import COLUMNS, StatusRow
from .wakeup import Bells

__all__ = ["SQLiteQueue"]

_COLUMNS = (
    "id, fingerprint, name, queue, priority, state, available_at, created_at, trace, payload"
)
_ROW = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_CANCEL_WAITING = """
UPDATE job SET state = 'cancelled', cancel_requested = 1, finished_at = ?
WHERE id = ? AND state IN ('queued', 'scheduled')
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
        self._group = GroupCommit(self._insert)

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
        if not new and self._fingerprint(job.id) != job.fingerprint:
            raise IdReused(job.id)
        return new

    def find_job(self, id: str) -> JobStatus | None:
        """What is known of a job, None for an unknown id.

        Raises:
            QueueUnavailable: the queue could not be read, for now.
        """
        with self._database.read() as connection:
            row = connection.execute(f"SELECT {COLUMNS} FROM job WHERE id = ?", (id,)).fetchone()
        return StatusRow._make(row).status() if row else None

    def cancel_job(self, id: str) -> JobStatus | None:
        """Cancel a job that waits, or ask a running one to stop; a finished one stays.

        Raises:
            QueueUnavailable: the queue could not be written, for now.
        """
        with self._database.write() as connection:
            connection.execute(_CANCEL_WAITING, (now_ms(), id))
            connection.execute(_ASK_RUNNING, (id,))
        return self.find_job(id)

    def workers(self) -> int:
        """How many worker processes are alive.

        Raises:
            QueueUnavailable: the queue could not be read, for now.
        """
        return sum(not worker.dead() for worker in self._registry.workers())

    def close(self) -> None:
        """Close what is open; a later use opens it anew."""
        self._database.close()
        self._bells.close()

    def _insert(self, jobs: Sequence[JobMessage]) -> list[bool]:
        """Insert jobs with one statement: a call for each would hand the GIL around."""
        now = now_ms()
        rows = [_row(job, now) for job in jobs]
        pages = USUAL_PAGES + sum(len(row[-1]) for row in rows) // PAGE_BYTES
        with self._database.write(pages) as connection:
            statement = (
                f"INSERT INTO job ({_COLUMNS}) VALUES {', '.join([_ROW] * len(rows))}"
                " ON CONFLICT (id) DO NOTHING RETURNING id"
            )
            values = [value for row in rows for value in row]
            inserted = {row[0] for row in connection.execute(statement, values).fetchall()}
        for queue in {job.queue for job in jobs}:
            self._bells.ring(queue)
        return [_taken(inserted, job.id) for job in jobs]

    def _fingerprint(self, id: str) -> bytes | None:
        with self._database.read() as connection:
            row = connection.execute("SELECT fingerprint FROM job WHERE id = ?", (id,)).fetchone()
        return row[0] if row else None


def _row(job: JobMessage, now: int) -> tuple[*tuple[object, ...], str]:
    due = now + math.ceil(job.delay * 1000)
    return (
        job.id,
        job.fingerprint,
        job.job,
        job.queue,
        job.priority,
        "scheduled" if due > now else "queued",
        due,
        now,
        None if job.trace is None else dump(job.trace),
        dump(job.payload),
    )


def _taken(ids: set[str], id: str) -> bool:
    """Whether the id is in the set, out of which it is taken: it counts only once."""
    if id not in ids:
        return False
    ids.remove(id)
    return True


def path_of(url: str) -> Path:
    """The file that a ``sqlite:`` URL names.

    Raises:
        ConfigError: it names none.
    """
    scheme, slashes, path = url.partition(":///")
    if scheme != "sqlite" or not slashes or not path.strip("/"):
        raise ConfigError(
            f"the queue URL {url!r} names no file: write DISPATCHER_QUEUE_URL as"
            " sqlite:///relative/path or sqlite:////absolute/path"
        )
    return Path(path)
