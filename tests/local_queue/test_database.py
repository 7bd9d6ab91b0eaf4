"""Opening, creating and locking the SQLite file."""

import gc
import os
import random
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from dispatcher_core import QueueError, QueueUnavailable
from dispatcher_local_queue.database import APPLICATION_ID, SCHEMA_VERSION, Database

PUT_WHEN_TOLD = """
import sys
from dispatcher_core.wire import JobMessage
from dispatcher_local_queue import SQLiteQueue

print("here", flush=True)
sys.stdin.readline()
SQLiteQueue(sys.argv[1]).put(JobMessage(
    id=sys.argv[2], job="add", payload={}, queue="default", delay=0.0, priority=0, trace=None))
"""

OPEN_AS_SOMEBODY = """
import os, sys
from pathlib import Path
from dispatcher_core import QueueUnavailable
from dispatcher_local_queue.database import Database
from dispatcher_local_queue.health import check_health

database = Database(Path(sys.argv[1]), durable=True)
if len(sys.argv) > 2:
    os.seteuid(int(sys.argv[2]))
try:
    with database.read():
        pass
except QueueUnavailable as error:
    print(error)
print(check_health(database).error)
"""


class Interrupted(BaseException):
    """Raised by a signal in the middle of anything."""


@pytest.fixture
def interrupt() -> Iterator[None]:
    """SIGALRM raises ``Interrupted``."""

    def ring(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, ring)
    gc.disable()  # what is raised in a callback of it is reported, not raised
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
    gc.enable()


@pytest.fixture
def closed_folder(tmp_path) -> Iterator[Path]:
    """A folder in which this process may make nothing once it is another user."""
    folder = tmp_path / "closed"
    folder.mkdir()
    # Another user has to reach it, or the refusal would be that of a folder above.
    above = [each for each in folder.parents if each.stat().st_uid == os.geteuid()]
    modes = {each: each.stat().st_mode & 0o7777 for each in above}
    if os.geteuid() == 0:
        for each, mode in modes.items():
            each.chmod(mode | 0o011)
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o755)
    for each, mode in modes.items():
        if os.geteuid() == 0:
            each.chmod(mode)


def somebody_else() -> list[int]:
    """The user id to become, where this user may write everywhere: one that no file lists."""
    return [54321] if os.geteuid() == 0 else []


def test_many_processes_create_one_file(script, path, database) -> None:
    """Ten processes that find no file make one together, and each keeps its job."""
    processes = [script(PUT_WHEN_TOLD, path, f"job-{number}") for number in range(10)]
    for process in processes:
        assert process.stdout.readline() == "here\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.wait(20) for process in processes] == [0] * 10
    with database.read() as connection:
        (count,) = connection.execute("SELECT count(*) FROM job").fetchone()
        (verdict,) = connection.execute("PRAGMA integrity_check").fetchone()
    assert (count, verdict) == (10, "ok")


def test_what_a_new_file_is_like(database) -> None:
    """A new file is marked as ours, has a log for many readers, and can give space back."""
    with database.read() as connection:
        found = {
            name: connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("application_id", "user_version", "journal_mode", "auto_vacuum")
        }
    assert found == {
        "application_id": APPLICATION_ID,
        "user_version": SCHEMA_VERSION,
        "journal_mode": "wal",
        "auto_vacuum": 2,
    }


def test_a_newer_schema_is_refused(database, path) -> None:
    """A file of a later version is left alone, and the message says what to update."""
    with database.write() as connection:
        connection.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    database.close()
    with pytest.raises(QueueError) as caught, database.read():
        pass
    assert not isinstance(caught.value, QueueUnavailable)
    for part in (str(path), "newer", "update dispatcher-local-queue"):
        assert part in str(caught.value)


def test_a_file_of_another_program_is_refused(foreign, database) -> None:
    """A SQLite file that is not ours is named, and not one byte of it changes."""
    before = foreign.read_bytes()
    reason = r"queue\.sqlite3 is a SQLite database of another"
    for access in (database.read, database.write):
        with pytest.raises(QueueError, match=reason), access():
            pass
    assert foreign.read_bytes() == before


@pytest.mark.parametrize("text", ["not a database\n" * 100, "no"], ids=["long", "short"])
def test_what_is_no_database_is_refused(text, path, database) -> None:
    """A file that SQLite cannot read is named, and stays as it is."""
    path.write_text(text)
    reason = r"queue\.sqlite3 is no SQLite database"
    with pytest.raises(QueueError, match=reason), database.read():
        pass
    assert path.read_text() == text


def test_a_damaged_file(database, path) -> None:
    """A file whose pages are overwritten is called damaged."""
    with database.write() as connection:
        connection.execute("PRAGMA user_version")
        connection.execute("INSERT INTO worker VALUES ('w', 's', 1, '', 1)")
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    database.close()
    with path.open("r+b") as file:
        file.seek(size)
        file.write(b"\xff" * (file.seek(0, os.SEEK_END) - size))
        file.seek(size)
        file.write(b"\xff" * (path.stat().st_size - size))
    reason = r"queue\.sqlite3 is damaged: restore it"
    with pytest.raises(QueueError, match=reason), database.read() as connection:
        connection.execute("SELECT * FROM worker").fetchall()


def test_an_empty_file_becomes_a_queue(path, database) -> None:
    """A file without a byte is what SQLite calls a new database."""
    path.touch()
    with database.write() as connection:
        assert connection.execute("SELECT count(*) FROM job").fetchone() == (0,)


def test_a_missing_folder(tmp_path) -> None:
    """Where the folder is missing, the message names it and the setting."""
    database = Database(tmp_path / "missing" / "q.sqlite3", durable=True)
    with pytest.raises(QueueUnavailable) as caught, database.read():
        pass
    assert str(tmp_path / "missing") in str(caught.value)
    assert "make it, or set DISPATCHER_QUEUE_URL" in str(caught.value)
    assert not (tmp_path / "missing").exists()


def test_a_folder_in_place_of_the_file(path, database) -> None:
    """A folder where the file ought to be is an error of ours."""
    path.mkdir()
    with pytest.raises(QueueError, match=r"queue\.sqlite3"), database.read():
        pass


def test_a_file_in_place_of_the_folder(path, database) -> None:
    """A file where the folder of locks ought to be is an error of ours."""
    path.with_name("queue.sqlite3.d").write_text("")
    reason = r"queue\.sqlite3.*File exists"
    with pytest.raises(QueueUnavailable, match=reason), database.read():
        pass


def test_a_folder_that_may_not_be_written(script, closed_folder) -> None:
    """Where nothing may be made, the message tells who we are and what to do."""
    process = script(OPEN_AS_SOMEBODY, closed_folder / "q.sqlite3", *somebody_else())
    said = process.stdout.readline()
    assert process.wait(20) == 0
    assert str(closed_folder / "q.sqlite3") in said
    assert "Permission denied" in said
    assert "let this user write to its folder, or set DISPATCHER_QUEUE_URL" in said
    if somebody_else():
        assert "this process runs as uid 54321" in said


def test_a_folder_that_may_not_be_entered(script, closed_folder) -> None:
    """Where not even looking is allowed, that is an error of ours too, and health says it."""
    closed_folder.chmod(0o600)
    process = script(OPEN_AS_SOMEBODY, closed_folder / "q.sqlite3", *somebody_else())
    said = process.stdout.readlines()
    assert process.wait(20) == 0
    assert len(said) == 2
    assert all("q.sqlite3" in line and "Permission denied" in line for line in said), said


def test_a_failed_write_leaves_nothing(database) -> None:
    """A block that raises is undone, whatever it raises, and the next one works."""
    with suppress(Interrupted), database.write() as connection:
        connection.execute("INSERT INTO worker VALUES ('w', 's', 1, '', 1)")
        raise Interrupted
    with pytest.raises(QueueError, match=r"fails: no such table"), database.write() as connection:
        connection.execute("INSERT INTO worker VALUES ('w', 's', 1, '', 1)")
        connection.execute("INSERT INTO missing VALUES (1)")
    with database.write() as connection:
        assert connection.execute("SELECT count(*) FROM worker").fetchone() == (0,)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupted_transaction_holds_nothing_up(database, path, interrupt, monkeypatch):
    """An alarm that rings in the middle of anything leaves neither a lock nor a half write."""
    monkeypatch.setattr("dispatcher_local_queue.patience._PATIENCE", 0.1)
    other = Database(path, durable=False)
    with other.write():
        pass
    for _ in range(150):
        try:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0003, 0.002))
            for _ in range(500):  # Python swallows what is raised in a weakref's callback
                with database.write() as connection:
                    connection.execute("SELECT count(*) FROM job").fetchone()
        except Interrupted:
            pass
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        with other.write(), database.read():
            pass
        with database.write(), other.read():
            pass
    other.close()


def test_a_read_sees_one_moment(database, path) -> None:
    """What others write while a block reads is not seen in it."""
    other = Database(path, durable=False)
    with database.read() as reader:
        with other.write() as writer:
            writer.execute("INSERT INTO worker VALUES ('w', 's', 1, '', 1)")
        assert reader.execute("SELECT count(*) FROM worker").fetchone() == (0,)
    with database.read() as reader:
        assert reader.execute("SELECT count(*) FROM worker").fetchone() == (1,)
    other.close()


def test_connections_are_used_again(database) -> None:
    """One after the other, blocks share a connection; one within another gets its own."""
    with database.read() as first, database.read() as inner:
        assert inner is not first
    with database.write() as second:
        assert second in (first, inner)


def test_a_deleted_file_is_noticed(database, path) -> None:
    """When the file is taken away, the next use makes a new one instead of writing nowhere."""
    with database.write() as connection:
        connection.execute("INSERT INTO worker VALUES ('w', 's', 1, '', 1)")
    for part in path.parent.glob(f"{path.name}*"):
        if part.is_file():
            part.unlink()
    with database.write() as connection:
        assert connection.execute("SELECT count(*) FROM worker").fetchone() == (0,)
    assert path.exists()
