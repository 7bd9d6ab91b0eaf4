"""Connections to the SQLite file, transactions, and the creation of its tables.

Only SQLite itself opens and closes the file: another close in the same process would drop
SQLite's POSIX locks, and commits would be lost (https://sqlite.org/howtocorrupt.html, 2.2).
"""

import logging
import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from importlib.resources import files
from pathlib import Path

from filelock import FileLock, Timeout

from dispatcher_core.errors import QueueError, QueueUnavailable

from .checkpoint import PAGE_BYTES, PAGES_BETWEEN, USUAL_PAGES, checkpoint
from .files import QueueFiles
from .filesystem import check_file_system
from .forks import ForkGate
from .leading import leading
from .patience import patiently, taking_turns
from .troubles import explained, refused

__all__ = ["Database", "now_ms"]

logger = logging.getLogger("dispatcher.queue")

SCHEMA_VERSION = 1
APPLICATION_ID = 0x44535054

_ROWS_OF_A_PAGE = 2  # where a transaction changes many, each in indexes too

_MARKS = """
SELECT (SELECT user_version FROM pragma_user_version),
       (SELECT application_id FROM pragma_application_id),
       (SELECT count(*) FROM sqlite_master)
"""


def now_ms() -> int:
    """The time as the database keeps it: milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class _Connection(sqlite3.Connection):
    """A connection that remembers which file it opened."""

    inode = 0

    def __del__(self) -> None:
        # Nobody closes one that an interrupt, or the end of its Database, leaves behind.
        with suppress(sqlite3.Error):
            self.close()


class Database:
    """The SQLite file of a queue, for any number of threads and forks.

    Args:
        path: the file; it is made when it is first needed.
        durable: whether a commit waits until the disk has it (``synchronous=FULL``).
            Without, a power cut may undo the last commits; the death of a process never.
    """

    def __init__(self, path: Path, *, durable: bool) -> None:
        self.files = QueueFiles(path.absolute())
        self._path = str(self.files.database)
        self._turn = self.files.turn_lock
        self._synchronous = "FULL" if durable else "NORMAL"
        self._written = 0
        self._idle: deque[_Connection] = deque()
        self._pid = os.getpid()
        self._inherited: list[deque[_Connection]] = []
        self._forks = ForkGate(self.close)

    def read(self) -> AbstractContextManager[_Connection]:
        """A connection that sees the file as it is now, for as long as the block runs.

        Raises:
            QueueUnavailable: the file cannot be read for now.
            QueueError: the file is no queue of ours.
        """
        return self._transaction(_begin_reading)

    def write(self, pages: int = USUAL_PAGES) -> AbstractContextManager[_Connection]:
        """A connection in a write transaction, committed at the end of the block.

        Args:
            pages: about how many pages it writes, which says when a checkpoint is due. One that
                changes many rows is found out.

        Raises:
            QueueUnavailable: the file cannot be written for now.
            QueueError: the file is no queue of ours.
        """
        return self._transaction(self._begin_writing, pages)

    def execute(
        self, statement: str, values: Sequence[object], pages: int = USUAL_PAGES
    ) -> sqlite3.Cursor:
        """One statement that writes, in a transaction of its own: the cheapest there is.

        Args:
            statement: the SQL; it returns no rows.
            values: what it binds.
            pages: about how many pages it writes, which says when a checkpoint is due.

        Raises:
            QueueUnavailable: the file cannot be written for now.
            QueueError: the file is no queue of ours.
        """
        with self._forks:
            connection = self._take()
            try:
                try:
                    cursor = connection.execute(statement, values)
                except sqlite3.OperationalError:  # nearly always because somebody else writes
                    cursor = taking_turns(
                        self._turn, lambda: connection.execute(statement, values)
                    )
            except sqlite3.Error as error:
                connection.close()
                raise explained(error, self.files.database) from error
            self._idle.append(connection)
        self._count(pages)
        return cursor

    @contextmanager
    def _transaction(
        self, begin: Callable[[sqlite3.Connection], None] | None = None, pages: int = 0
    ) -> Iterator[_Connection]:
        """A connection; what is not committed at the end of the block is rolled back.

        One generator for all of it, since each transaction pays for each.
        """
        with self._forks:
            connection = self._take()
            sound = True
            try:
                if begin is not None:
                    begin(connection)
                changes = connection.total_changes
                yield connection
                if pages:
                    connection.execute("COMMIT")
                    pages += (connection.total_changes - changes) // _ROWS_OF_A_PAGE
            except sqlite3.Error as error:
                sound = False
                connection.close()
                raise explained(error, self.files.database) from error
            finally:
                if sound:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    self._idle.append(connection)
        if pages:
            self._count(pages)

    def _begin_writing(self, connection: sqlite3.Connection) -> None:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            taking_turns(self._turn, lambda: connection.execute("BEGIN IMMEDIATE"))

    def _count(self, pages: int) -> None:
        # The sum may miss some when threads race: it only says when it is time again.
        self._written += pages
        if self._written >= PAGES_BETWEEN:
            self._written = 0
            self._checkpoint()

    def _checkpoint(self) -> None:
        try:
            self.files.make_folder()  # whoever took it away must not make the log grow
            with leading(self.files.leader_lock) as leads:
                if leads:
                    with (
                        self._transaction(self._begin_writing) as writer,
                        self._transaction() as other,
                    ):
                        checkpoint(writer, other)
        except (QueueError, OSError) as error:
            # The caller's commit holds all the same: an error would tell him that it does not.
            logger.warning("the log of %s is not written back: %s", self.files.database, error)

    def close(self) -> None:
        """Close the connections that are idle; a later use opens new ones."""
        with suppress(IndexError):  # another thread may be faster
            while True:
                self._idle.pop().close()

    def _take(self) -> _Connection:
        if self._pid != os.getpid():
            # A fork must neither use nor close what its parent opened.
            self._inherited.append(self._idle)
            self._idle, self._pid = deque(), os.getpid()
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                break
            if connection.inode == self.inode():
                return connection
            connection.close()
            path = self.files.database
            logger.error("%s was deleted or replaced: going on with what is there", path)
        try:
            return patiently(self._open)
        except sqlite3.Error as error:
            raise explained(error, self.files.database) from error
        except OSError as error:
            raise refused(error, self.files.database) from error

    def inode(self) -> int:
        """What tells the file from another one that takes its place; 0 where there is none."""
        try:
            return os.stat(self._path).st_ino  # noqa: PTH116 - half the cost, at each use
        except OSError:
            return 0

    def _open(self) -> _Connection:
        if not (self.files.database.exists() and self.files.folder.exists()):
            self._create()
        connection = self._connect()
        try:
            if self._schema_version(connection) != SCHEMA_VERSION:
                self._create()
            connection.inode = self.inode()
            # Who was killed took its count along: what the log holds may be due already.
            self._written = max(self._written, self.files.log_size() // PAGE_BYTES)
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect(self) -> _Connection:
        # The mode rw never makes a file: that would have the wrong permissions.
        connection = sqlite3.connect(
            f"{self.files.database.as_uri()}?mode=rw",
            uri=True,
            timeout=0,
            isolation_level=None,
            check_same_thread=False,
            factory=_Connection,
        )
        connection.execute(f"PRAGMA synchronous={self._synchronous}")
        connection.execute("PRAGMA temp_store=MEMORY")
        connection.execute("PRAGMA journal_size_limit=67108864")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        return connection

    def _create(self) -> None:
        check_file_system(self.files.database.parent)
        self.files.make_folder()
        try:
            with FileLock(
                self.files.migration_lock, timeout=30, mode=0o600, fallback_to_soft=False
            ):
                self._make_file()
                self._make_tables()
        except Timeout:
            raise QueueUnavailable(
                f"another process has been creating {self.files.database} for 30 s"
            ) from None

    def _make_file(self) -> None:
        if self.files.database.exists():
            return
        # What SQLite kept beside a file that was deleted would spoil the new one.
        for suffix in ("-wal", "-shm"):
            self.files.database.with_name(f"{self.files.database.name}{suffix}").unlink(
                missing_ok=True
            )
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
        with suppress(FileExistsError):
            os.close(os.open(self.files.database, flags, 0o600))

    def _make_tables(self) -> None:
        connection = self._connect()
        try:
            version = self._schema_version(connection)
            if version == 0:
                connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
                connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
                _switch_to_wal(connection)
                script = (files(__package__) / "schema.sql").read_text("utf-8")
                connection.executescript(
                    f"BEGIN IMMEDIATE;{script}PRAGMA application_id={APPLICATION_ID};"
                    f"PRAGMA user_version={SCHEMA_VERSION};COMMIT;"
                )
            elif version != SCHEMA_VERSION:
                raise QueueError(
                    f"{self.files.database} has the schema {version}, newer than this program's"
                    f" {SCHEMA_VERSION}: update dispatcher-local-queue here"
                )
        finally:
            connection.close()

    def _schema_version(self, connection: sqlite3.Connection) -> int:
        """The version of the file's tables; 0 for a new file.

        Raises:
            QueueError: the file holds something else.
        """
        # One statement: another process may be making the tables at this moment.
        version, application, tables = connection.execute(_MARKS).fetchone()
        if tables and application != APPLICATION_ID:
            raise QueueError(
                f"{self.files.database} is a SQLite database of another program: set"
                " DISPATCHER_QUEUE_URL to another file"
            )
        return int(version)


def _begin_reading(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN")
    patiently(lambda: connection.execute("SELECT 1 FROM worker LIMIT 1").fetchone())


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
    if mode != "wal":
        raise QueueError(f"SQLite cannot use its write-ahead log here (journal mode {mode})")
