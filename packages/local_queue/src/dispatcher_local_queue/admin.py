"""What an operator may do with a queue's file: look, retry, forget, pause, resume, prune."""

import json
import sqlite3
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from dispatcher_core.errors import QueueError
from dispatcher_core.status import FINISHED, STATES, JobState, JobStatus

from .database import Database, now_ms
from .health import check_health
from .maintenance import GIVE_WAY, LEAST_RETENTION, pruning, repeated
from .rows import COLUMNS, StatusRow
from .wakeup import Bells

__all__ = ["Admin", "QueueStats", "Stats", "StoredJob"]

_MOST_ROWS = 500

_STATS = "SELECT queue, state, count(*), min(available_at) FROM job GROUP BY queue, state"
_PAUSED = "SELECT name FROM paused_queue"
_DETAILS = f"SELECT priority, kills, payload, {COLUMNS} FROM job WHERE id = ?"
_RECORD = """
SELECT seq, state, finished_at, batch_id, callback_delay IS NOT NULL FROM job WHERE id = ?
"""
_RETRY = """
UPDATE job SET state = 'queued', available_at = ?, attempt = 0, kills = 0, cancel_requested = 0,
               unknown_since = NULL, progress_done = NULL, progress_total = NULL,
               started_at = NULL, finished_at = NULL, result = NULL,
               error_code = NULL, error_type = NULL, error_message = NULL
WHERE seq = ?
RETURNING queue
"""
_FAILED = f"""
SELECT seq FROM job
WHERE state = 'failed' AND seq > ? AND queue = coalesce(?, queue)
AND (batch_id IS NULL OR callback_delay IS NOT NULL)
ORDER BY seq LIMIT {_MOST_ROWS}
"""


@dataclass(frozen=True, slots=True)
class QueueStats:
    """The jobs of one queue.

    Attributes:
        queue: its name.
        paused: whether its jobs are kept from starting.
        counts: how many jobs are in each state.
        oldest_waiting: seconds for which the job has waited that could have started first;
            None where no job could start.
    """

    queue: str
    paused: bool
    counts: Mapping[str, int]
    oldest_waiting: float | None


@dataclass(frozen=True, slots=True)
class Stats:
    """What is in a queue's file, and who works on it.

    Attributes:
        queues: every queue that has jobs or is paused, by name.
        supervisors: how many are alive on this host.
        workers: how many worker processes are alive on this host.
        file_size: bytes of the database.
        log_size: bytes of SQLite's write-ahead log.
    """

    queues: tuple[QueueStats, ...]
    supervisors: int
    workers: int
    file_size: int
    log_size: int


@dataclass(frozen=True, slots=True)
class StoredJob:
    """All that the queue tells of a job.

    Attributes:
        status: what its sender may see too.
        priority: -100 to 100; higher ones start first.
        kills: how many worker processes died under it.
        payload: its handler's keyword arguments.
    """

    status: JobStatus
    priority: int
    kills: int
    payload: Mapping[str, object]


class _Record(NamedTuple):
    """What decides whether a job may be retried or forgotten."""

    seq: int
    state: str
    finished_at: int | None
    batch_id: str | None
    is_callback: int


class Admin:
    """Looks after the queue in a file.

    All methods raise ``QueueUnavailable`` where the file cannot be read or written for now.

    Args:
        database: the queue's file.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._bells = Bells(database.files)

    def stats(self) -> Stats:
        """Count the jobs and the processes that are alive."""
        with self._database.read() as connection:
            rows = connection.execute(_STATS).fetchall()
            paused = {name for (name,) in connection.execute(_PAUSED)}
        now = now_ms()
        names = sorted(paused.union(queue for queue, *_ in rows))
        health = check_health(self._database)
        file = self._database.files.database
        return Stats(
            queues=tuple(
                _queue_stats(
                    name, name in paused, [row[1:] for row in rows if row[0] == name], now
                )
                for name in names
            ),
            supervisors=health.supervisors,
            workers=health.workers,
            file_size=file.stat().st_size,
            log_size=self._database.files.log_size(),
        )

    def jobs(
        self, *, state: JobState | None = None, queue: str | None = None, limit: int = 50
    ) -> list[JobStatus]:
        """The latest jobs, newest first.

        Args:
            state: only those in this state.
            queue: only those in this queue.
            limit: how many at most.
        """
        if state is not None and state not in STATES:
            raise ValueError(f"{state!r} is no state of a job")
        # Spelled out, since SQLite uses a partial index only where it can see that it fits.
        where = "queue = coalesce(?, queue)" + (f" AND state = '{state}'" if state else "")
        # Few jobs run or are scheduled: it is quicker to sort them than to pass all others.
        order = "+seq" if state in ("running", "scheduled") else "seq"
        with self._database.read() as connection:
            rows = connection.execute(
                f"SELECT {COLUMNS} FROM job WHERE {where} ORDER BY {order} DESC LIMIT ?",
                (queue, limit),
            ).fetchall()
        return [StatusRow._make(row).status() for row in rows]

    def find(self, id: str) -> StoredJob | None:
        """A job, None for an unknown id."""
        with self._database.read() as connection:
            row = connection.execute(_DETAILS, (id,)).fetchone()
        if row is None:
            return None
        priority, kills, payload, *rest = row
        return StoredJob(StatusRow._make(rest).status(), priority, kills, json.loads(payload))

    def retry(self, id: str) -> None:
        """Queue a job again that failed or was cancelled, with all its tries.

        Raises:
            QueueError: there is no such job, it is not one of these, or it belongs to a batch.
        """
        with self._database.write() as connection:
            record = _record(connection, id)
            if record.state not in ("failed", "cancelled"):
                raise QueueError(
                    f"job {id} is {record.state}: only a failed or cancelled one can be retried"
                )
            if record.is_callback and record.state == "cancelled":
                raise QueueError(f"job {id} is a callback that never came due: it stays cancelled")
            if record.batch_id is not None and not record.is_callback:
                raise QueueError(
                    f"job {id} belongs to batch {record.batch_id}, whose counters and callbacks"
                    " have acted on how it ended: dispatch it anew"
                )
            queues = _retry(connection, [record.seq])
        self._wake(queues)

    def retry_all(self, queue: str | None = None) -> int:
        """Queue all failed jobs again that belong to no batch; one that fails anew stays failed.

        Args:
            queue: only those in this queue.

        Returns:
            How many they were.
        """
        total = last = 0
        while found := self._retry_some(last, queue):
            total, last = total + len(found), found[-1]
            time.sleep(GIVE_WAY)
        return total

    def forget(self, id: str) -> None:
        """Delete the record of a finished job.

        Raises:
            QueueError: there is no such job, it is not finished, or it finished less than an
                hour ago.
        """
        with self._database.write() as connection:
            record = _record(connection, id)
            if record.state not in FINISHED:
                raise QueueError(
                    f"job {id} is {record.state}: only a finished one can be forgotten"
                )
            if record.finished_at and now_ms() - record.finished_at < LEAST_RETENTION * 1000:
                raise QueueError(
                    f"job {id} finished less than an hour ago: its sender may still repeat the"
                    " request, which would run it again"
                )
            connection.execute("DELETE FROM job WHERE seq = ?", (record.seq,))

    def pause(self, queue: str) -> bool:
        """Let no more jobs of a queue start; False where that is so already.

        Jobs are still accepted, and those that run end as ever.
        """
        with self._database.write() as connection:
            changed = connection.execute(
                "INSERT INTO paused_queue VALUES (?, ?) ON CONFLICT DO NOTHING", (queue, now_ms())
            ).rowcount
        return changed == 1

    def resume(self, queue: str) -> bool:
        """Let the jobs of a paused queue start; False where it was not paused."""
        with self._database.write() as connection:
            changed = connection.execute(
                "DELETE FROM paused_queue WHERE name = ?", (queue,)
            ).rowcount
        self._wake([queue])
        return changed == 1

    def prune(self, older_than: float) -> int:
        """Remove the jobs that succeeded or were cancelled so long ago. Failed ones stay.

        Args:
            older_than: seconds since they finished.

        Returns:
            How many they were.

        Raises:
            QueueError: that is less than an hour.
        """
        if older_than < LEAST_RETENTION:
            raise QueueError(
                "jobs are kept for an hour at least (3600 s): a repeated request could run a"
                " younger one again"
            )
        jobs, *_ = [repeated(step) for step in pruning(self._database, older_than)]
        return jobs

    def close(self) -> None:
        """Close what is open; a later use opens it anew."""
        self._database.close()
        self._bells.close()

    def _retry_some(self, last: int, queue: str | None) -> list[int]:
        """Retry some of the failed jobs that came after the last, and tell which."""
        with self._database.write() as connection:
            found = [seq for (seq,) in connection.execute(_FAILED, (last, queue))]
            queues = _retry(connection, found)
        self._wake(queues)
        return found

    def _wake(self, queues: Iterable[str]) -> None:
        for queue in queues:
            self._bells.ring(queue)


def _queue_stats(
    name: str, paused: bool, rows: Iterable[tuple[str, int, int | None]], now: int
) -> QueueStats:
    counts = dict.fromkeys(sorted(STATES), 0)
    waiting = []
    for state, count, since in rows:
        counts[state] = count
        # A scheduled job that is due waits as well, until a worker moves it over.
        if state in ("queued", "scheduled") and since is not None and since <= now:
            waiting.append((now - since) / 1000)
    return QueueStats(name, paused, counts, max(waiting, default=None))


def _record(connection: sqlite3.Connection, id: str) -> _Record:
    row = connection.execute(_RECORD, (id,)).fetchone()
    if row is None:
        raise QueueError(f"there is no job {id!r}")
    return _Record._make(row)


def _retry(connection: sqlite3.Connection, jobs: Iterable[int]) -> set[str]:
    """Queue jobs again, and tell their queues."""
    now = now_ms()
    return {connection.execute(_RETRY, (now, seq)).fetchone()[0] for seq in jobs}
