"""SQLite's log is written back by one process at a time, so that it stays small."""

import os
import random
import signal
import sqlite3
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from dispatcher_local_queue import SQLiteQueue
from dispatcher_local_queue.checkpoint import checkpoint
from dispatcher_local_queue.database import Database
from dispatcher_local_queue.endings import Ending
from dispatcher_local_queue.leading import leading

MEBIBYTE = 1 << 20

WRITE_UNTIL_KILLED = """
import os, sys
from pathlib import Path
from dispatcher_core.wire import JobMessage
from dispatcher_local_queue import SQLiteQueue, database
from dispatcher_local_queue.claims import Claims
from dispatcher_local_queue.endings import Ending
from dispatcher_local_queue.registry import Registry
from dispatcher_local_queue.wakeup import Bells

path, name = Path(sys.argv[1]), sys.argv[2]
database.PAGES_BETWEEN = 12  # a checkpoint after every second commit
queue, file = SQLiteQueue(path), database.Database(path, durable=False)
Registry(file).enter(name, "boss", os.getpid())
claims = Claims(file, name, Bells(file.files))
print("here", flush=True)
number, claim = 0, None
while True:
    id = f"{name}-{number}"
    queue.put(JobMessage(id=id, job="add", payload={"text": "x" * 2000}, queue="default",
                         delay=0.0, priority=0, trace=None))
    os.write(1, f"put {id}\\n".encode())
    if claim is None:
        claim = claims.claim(["default"])
    else:
        ended = claim.id
        claim = claims.end_and_claim(claim, Ending(state="succeeded"), ["default"])[1]
        os.write(1, f"ended {ended}\\n".encode())
    number += 1
"""


@pytest.fixture
def log(path) -> Path:
    """SQLite's log."""
    return path.with_name(f"{path.name}-wal")


@pytest.fixture
def lock(tmp_path) -> Path:
    """A lock file that nobody has made yet."""
    return tmp_path / "leader.lock"


@pytest.fixture
def often(monkeypatch) -> None:
    """A checkpoint follows every commit."""
    monkeypatch.setattr("dispatcher_local_queue.database.PAGES_BETWEEN", 1)


@pytest.mark.parametrize(("threads", "each"), [(1, 4000), (8, 2000)])
def test_the_log_stays_small(threads, each, queue, message, log) -> None:
    """Whoever puts keeps the log small, though no worker is up: 20,000 jobs in both runs."""
    sizes = []

    def put(_: int) -> None:
        for _ in range(each):
            queue.put(message())
            sizes.append(log.stat().st_size)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(put, range(threads)))
    assert len(sizes) == threads * each
    assert max(sizes) < 8 * MEBIBYTE


def test_workers_keep_the_log_small(jobs, claims, log) -> None:
    """Who claims and ends jobs keeps the log small too."""
    sizes = []
    for _ in range(1500):
        jobs.put()
    claim = claims.claim(["default"])
    while claim is not None:
        claim = claims.end_and_claim(claim, Ending(state="succeeded"), ["default"])[1]
        sizes.append(log.stat().st_size)
    assert len(sizes) == 1500
    assert max(sizes) < 8 * MEBIBYTE


@pytest.mark.parametrize("of", ["payload", "result"])
def test_big_jobs_keep_the_log_small(jobs, claims, log, of) -> None:
    """To claim or end a job writes all of it anew, which counts as what it is."""
    big = "x" * 60_000
    for _ in range(200):
        jobs.put(payload={"text": big} if of == "payload" else {})
    claim = claims.claim(["default"])
    sizes = []
    while claim is not None:
        ending = Ending(state="succeeded", result=f'"{big}"' if of == "result" else None)
        claim = claims.end_and_claim(claim, ending, ["default"])[1]
        sizes.append(log.stat().st_size)
    assert len(sizes) == 200
    assert max(sizes) < 12 * MEBIBYTE


def test_many_changed_rows_keep_the_log_small(jobs, database, log) -> None:
    """A transaction that changes many rows counts for as much as it writes."""
    for _ in range(1500):
        jobs.put()
    sizes = []
    for priority in range(150):
        with database.write() as connection:
            connection.execute("UPDATE job SET priority = ?", (priority % 100,))
        sizes.append(log.stat().st_size)
    assert max(sizes) < 12 * MEBIBYTE


def test_a_long_read(queue, message, database, log) -> None:
    """While somebody reads, the log grows and nobody waits; then it goes back to its limit."""
    big = {"text": "x" * MEBIBYTE}
    queue.put(message())
    with database.read() as reader:
        (limit,) = reader.execute("PRAGMA journal_size_limit").fetchone()
        for _ in range(limit // MEBIBYTE + 4):
            queue.put(message("add", big))
        assert log.stat().st_size > limit
        assert reader.execute("SELECT count(*) FROM job").fetchone() == (1,)
    for _ in range(12):
        queue.put(message("add", big))
    assert log.stat().st_size <= limit
    with database.read() as reader:
        (count,) = reader.execute("SELECT count(*) FROM job").fetchone()
        (verdict,) = reader.execute("PRAGMA integrity_check").fetchone()
    assert (count, verdict) == (1 + limit // MEBIBYTE + 4 + 12, "ok")


def test_no_connection_checkpoints_by_itself(path, message, monkeypatch, often) -> None:
    """Every connection switches SQLite's own checkpoints off before it touches the file."""
    traces: list[list[str]] = []
    connect = sqlite3.connect

    def traced(*arguments, **options) -> sqlite3.Connection:
        connection = connect(*arguments, **options)
        traces.append([])
        connection.set_trace_callback(traces[-1].append)
        return connection

    monkeypatch.setattr(sqlite3, "connect", traced)
    queue = SQLiteQueue(path)
    job = message()
    queue.put(job)
    queue.find_job(job.id)
    with Database(path, durable=False).read() as inner, Database(path, durable=True).write():
        assert inner.execute("PRAGMA wal_autocheckpoint").fetchone() == (0,)
    assert len(traces) >= 4
    for trace in traces:
        touched = next(
            place
            for place, each in enumerate(trace)
            if each.lstrip().startswith(("BEGIN", "SELECT"))
        )
        assert "PRAGMA wal_autocheckpoint=0" in trace[:touched]


def test_a_big_commit_stays_in_the_log(database, path, log) -> None:
    """Even a commit of many megabytes is not written back by whoever made it."""
    with database.write():
        pass
    before = path.stat().st_size
    with database.write(pages=0) as connection:
        connection.execute(
            "INSERT INTO worker SELECT value, hex(zeroblob(4000)), 1, '', 1 FROM json_each(?)",
            (f"[{', '.join(map(str, range(1000)))}]",),
        )
    assert log.stat().st_size > 4 * MEBIBYTE
    assert path.stat().st_size == before


def test_a_checkpoint_needs_the_write_lock(database, path) -> None:
    """A checkpoint beside somebody's write could lose pages, so it is refused."""
    other = Database(path, durable=False)
    idle = sqlite3.connect(":memory:")
    with closing(idle), database.read() as reader, other.read() as second:
        with pytest.raises(ValueError, match="write lock"):
            checkpoint(idle, second)
        assert reader.in_transaction
    other.close()


def test_no_write_beside_a_checkpoint(queue, message, path, often, monkeypatch) -> None:
    """From before a checkpoint until after it, nobody else can begin a write."""
    queue.put(message())
    other = sqlite3.connect(path, timeout=0, isolation_level=None)
    refused = []

    def watched(*connections: sqlite3.Connection) -> None:
        for act in (lambda: None, lambda: checkpoint(*connections)):
            act()
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("BEGIN IMMEDIATE")
            refused.append(act)

    monkeypatch.setattr("dispatcher_local_queue.database.checkpoint", watched)
    assert queue.put(message()) is True
    assert len(refused) == 2
    other.execute("BEGIN IMMEDIATE")
    other.close()


def test_one_leads_at_a_time(lock) -> None:
    """Of two that want to lead one does, the other does not wait; then it may."""
    with leading(lock) as first, leading(lock) as second:
        assert (first, second) == (True, False)
    with leading(lock) as again:
        assert again is True
    assert lock.stat().st_mode & 0o777 == 0o600


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_does_not_go_on_leading(lock, doomed_child) -> None:
    """A process that was forked meanwhile has the lock's file open, but not the lead."""
    with leading(lock) as leads:
        assert leads is True
        pid = os.fork()
        if pid == 0:
            while True:
                signal.pause()
        doomed_child(pid)
    with leading(lock) as again:
        assert again is True


def test_a_failed_checkpoint(queue, message, path, often, caplog) -> None:
    """A job is kept though the log cannot be written back, which is logged."""
    queue.put(message())
    lock = path.with_name(f"{path.name}.d") / "leader.lock"
    lock.unlink(missing_ok=True)
    lock.mkdir()
    job = message()
    assert queue.put(job) is True
    assert queue.find_job(job.id).state == "queued"
    assert f"the log of {path} is not written back" in caplog.text
    caplog.clear()
    lock.rmdir()
    assert queue.put(message()) is True
    assert caplog.text == ""


def kill_in_the_middle(processes: list[subprocess.Popen[str]]) -> list[str]:
    """Kill the processes one after the other; tell the lines that they said."""
    for process in processes:
        assert process.stdout.readline() == "here\n"
    with ThreadPoolExecutor(len(processes)) as readers:
        futures = [readers.submit(process.stdout.read) for process in processes]
        for process in processes:
            time.sleep(random.uniform(0.05, 0.4))  # the moment is what varies
            process.kill()
        said = [future.result(20) for future in futures]
    # A line that was cut off in the middle says nothing.
    return [line for text in said for line in text.split("\n")[:-1]]


def states(database: Database) -> dict[str, str]:
    with database.read() as connection:
        return dict(connection.execute("SELECT id, state FROM job").fetchall())


@pytest.mark.parametrize("seed", range(3))
def test_killed_in_the_middle(seed, script, path, database) -> None:
    """Four processes that write and check-point are killed: nothing acknowledged is lost."""
    names = [f"writer-{seed}-{number}" for number in range(4)]
    said = kill_in_the_middle([script(WRITE_UNTIL_KILLED, path, name) for name in names])
    found = states(database)
    put = {line.partition(" ")[2] for line in said if line.startswith("put ")}
    ended = {line.partition(" ")[2] for line in said if line.startswith("ended ")}
    assert len(put) > 20
    assert put <= found.keys()
    assert [id for id in ended if found[id] != "succeeded"] == []
    with database.read() as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
