"""The workers that are known, and what becomes of the jobs of a dead one.

A worker takes its lock, then writes its row, then claims: so each running job has a row, and
each row had a lock. Recovery goes the other way: jobs back and row gone in one transaction,
then the file.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from dispatcher_core.status import JobError

from .database import Database, now_ms
from .endings import COUNTED_IN, Ending, Owned, write_ending
from .files import QueueFiles
from .liveness import birth_of, dead, gone

__all__ = ["DEADLY", "KnownWorker", "Recovered", "Registry"]

DEADLY = 3  # a job under which so many workers died is not started again

_WORKERS = "SELECT id, supervisor, pid, birth FROM worker"
_RUNNING = f"""
SELECT seq, token, {COUNTED_IN}, id, name, queue, kills, doom, doom_delay FROM job
WHERE worker = ? AND state = 'running'
"""
_RUNNING_UNDER = """
SELECT job.id, job.name FROM worker JOIN job ON job.worker = worker.id AND job.state = 'running'
WHERE worker.supervisor = ?
"""
_DOOM = """
UPDATE job SET doom = 'timed-out', doom_delay = ?, token = ?
WHERE worker = ? AND token = ? AND state = 'running'
"""


class Recovered(NamedTuple):
    """A job whose worker died.

    Attributes:
        id: its id.
        name: the name it was dispatched under.
        state: the state that it is in now.
        woken: the queues in which jobs can start now.
    """

    id: str
    name: str
    state: str
    woken: frozenset[str]


@dataclass(frozen=True, slots=True)
class KnownWorker:
    """A worker process as its row tells of it.

    Attributes:
        files: where its lock file lies.
        id: its id.
        supervisor: its supervisor's id.
        pid: its process, which leads a process group of the same number.
        birth: what tells it from other processes that had this pid.
    """

    files: QueueFiles
    id: str
    supervisor: str
    pid: int
    birth: str

    @contextmanager
    def found_dead(self) -> Iterator[bool]:
        """Whether it is dead; while the block runs, nobody else finds that out."""
        with dead(self.files.worker_lock(self.id)) as unlocked:
            yield unlocked or self.gone()

    def gone(self) -> bool:
        """Whether its process has certainly ended, whoever has its lock."""
        return gone(self.pid, self.birth)

    def dead(self) -> bool:
        """Whether it is dead."""
        with self.found_dead() as is_dead:
            return is_dead


class Registry:
    """The rows of the workers of one queue's file."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def enter(self, worker_id: str, supervisor_id: str, pid: int) -> None:
        """Write the row of a worker that has its lock."""
        with self._database.write() as connection:
            connection.execute(
                "INSERT INTO worker VALUES (?, ?, ?, ?, ?)",
                (worker_id, supervisor_id, pid, birth_of(pid), now_ms()),
            )

    def workers(self) -> list[KnownWorker]:
        """Every worker that has a row."""
        with self._database.read() as connection:
            rows = connection.execute(_WORKERS).fetchall()
        return [KnownWorker(self._database.files, *row) for row in rows]

    def running_jobs(self, supervisor_id: str) -> list[tuple[str, str]]:
        """Id and name of what the workers of a supervisor run."""
        with self._database.read() as connection:
            return connection.execute(_RUNNING_UNDER, (supervisor_id,)).fetchall()

    def doom(self, worker_id: str, token: int, new_token: int, delay_ms: int | None) -> bool:
        """Decide that the run of a worker has timed out: from now on it can write nothing.

        Args:
            worker_id: the worker.
            token: the token of the run.
            new_token: what takes its place.
            delay_ms: milliseconds until the job's next try, None for none.

        Returns:
            False where the run has ended meanwhile.
        """
        with self._database.write() as connection:
            changed = connection.execute(_DOOM, (delay_ms, new_token, worker_id, token)).rowcount
        return changed == 1

    def recover(self, worker_id: str, *, killed: bool = True) -> list[Recovered]:
        """Put back what a dead worker ran, and forget the worker. A second call does nothing.

        Args:
            worker_id: a worker that is certainly dead.
            killed: whether its death counts against the job.

        Returns:
            What it ran, and what became of that.
        """
        recovered = []
        with self._database.write() as connection:
            now = now_ms()
            for row in connection.execute(_RUNNING, (worker_id,)).fetchall():
                *owned, job_id, name, queue, kills, doom, doom_delay = row
                ending = _ending(kills, doom, doom_delay, killed=killed)
                written = write_ending(connection, Owned._make(owned), ending, now)
                if written is not None:
                    woken = frozenset((queue, *written.woken))
                    recovered.append(Recovered(job_id, name, written.ending.state, woken))
            connection.execute("DELETE FROM worker WHERE id = ?", (worker_id,))
        self._database.files.worker_lock(worker_id).unlink(missing_ok=True)
        return recovered

    def remove_dead_locks(self) -> None:
        """Remove the lock files of the dead workers that have no row.

        They died before they wrote it, or who recovered them died before the file was gone.
        """
        for path in self._database.files.worker_locks():
            with dead(path) as is_dead:
                # While we hold its lock, no worker of this name can write a row any more.
                if is_dead and path.stem.removeprefix("worker-") not in self._ids():
                    path.unlink(missing_ok=True)

    def _ids(self) -> set[str]:
        return {worker.id for worker in self.workers()}


def _ending(kills: int, doom: str | None, doom_delay: int | None, *, killed: bool) -> Ending:
    if doom is not None:
        error = JobError(doom, "JobTimeout", "the job did not stop at its timeout and was killed")
        return Ending.failed(error) if doom_delay is None else Ending.retried(error, doom_delay)
    if killed and kills + 1 >= DEADLY:
        message = f"{DEADLY} worker processes died while they ran this job"
        return Ending(
            state="failed", error=JobError("worker-died", "", message), counted=False, killed=True
        )
    return Ending.put_back(killed=killed)
