"""Where the files of a queue lie: the database, and its companions beside it."""

from dataclasses import dataclass
from pathlib import Path

from dispatcher_core.errors import QueueUnavailable

__all__ = ["QueueFiles"]


@dataclass(frozen=True, slots=True)
class QueueFiles:
    """The paths of one queue's files, all readable by their owner alone.

    Attributes:
        database: the SQLite file.
    """

    database: Path

    @property
    def folder(self) -> Path:
        """The folder of locks and pipes, ``<database>.d``."""
        return self.database.with_name(self.database.name + ".d")

    def log_size(self) -> int:
        """Bytes of SQLite's write-ahead log, 0 where there is none."""
        try:
            return self.database.with_name(f"{self.database.name}-wal").stat().st_size
        except OSError:
            return 0

    @property
    def migration_lock(self) -> Path:
        """Held by who creates the tables."""
        return self.folder / "migration.lock"

    @property
    def turn_lock(self) -> Path:
        """Held by who waits for SQLite's write lock without sleeping."""
        return self.folder / "turn.lock"

    @property
    def leader_lock(self) -> Path:
        """Held by who writes the log back into the database."""
        return self.folder / "leader.lock"

    @property
    def prune_lock(self) -> Path:
        """Held by who removes what nobody needs any more."""
        return self.folder / "prune.lock"

    def worker_lock(self, worker_id: str) -> Path:
        """Held by a worker process for as long as it lives."""
        return self.folder / f"worker-{worker_id}.lock"

    def worker_locks(self) -> list[Path]:
        """The lock files of all workers, dead ones too."""
        return sorted(self.folder.glob("worker-*.lock"))

    def supervisor_lock(self, supervisor_id: str) -> Path:
        """Held by a supervisor for as long as it lives."""
        return self.folder / f"supervisor-{supervisor_id}.lock"

    def supervisor_locks(self) -> list[Path]:
        """The lock files of all supervisors, dead ones too."""
        return sorted(self.folder.glob("supervisor-*.lock"))

    def bell(self, queue: str) -> Path:
        """The named pipe that wakes the workers of a queue."""
        return self.folder / f"wake-{queue}"

    def make_folder(self) -> None:
        """Make the folder, for its owner alone.

        Raises:
            QueueUnavailable: there is no place for it.
            OSError: it cannot be made there.
        """
        try:
            self.folder.mkdir(mode=0o700, exist_ok=True)
        except FileNotFoundError:
            raise QueueUnavailable(
                f"the folder {self.database.parent} does not exist: make it, or set"
                " DISPATCHER_QUEUE_URL to another place"
            ) from None
