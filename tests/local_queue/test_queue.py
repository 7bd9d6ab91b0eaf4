"""The queue as the receiver sees it."""

import os
import resource
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from dispatcher_core import (
    Config,
    ConfigError,
    IdReused,
    JobError,
    PluginNotFound,
    QueueUnavailable,
)
from dispatcher_core.testing import check_queue
from dispatcher_local_queue import SQLiteQueue
from dispatcher_local_queue.database import Database
from dispatcher_local_queue.endings import Ending

PUT_FROM_FORKS = """
import os, sys
from dispatcher_core.wire import JobMessage
from dispatcher_local_queue import SQLiteQueue

queue = SQLiteQueue(sys.argv[1])

def put(name):
    queue.put(JobMessage(id=name, job="add", payload={}, queue="default", delay=0.0, priority=0,
                         trace=None))

put("parent")
children = []
for child in range(4):
    pid = os.fork()
    if pid == 0:
        try:
            for number in range(25):
                put(f"child-{child}-{number}")
            os._exit(0)
        finally:
            os._exit(1)
    children.append(pid)
for number in range(25):
    put(f"parent-{number}")
print([os.waitpid(pid, 0)[1] for pid in children])
"""

PUT_UNTIL_FULL = """
import resource, sys
from dispatcher_core import QueueUnavailable
from dispatcher_core.wire import JobMessage
from dispatcher_local_queue import SQLiteQueue

resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
queue = SQLiteQueue(sys.argv[1])
try:
    for number in range(1000):
        queue.put(JobMessage(id=f"job-{number}", job="add", payload={"text": "x" * 5000},
                             queue="default", delay=0.0, priority=0, trace=None))
except QueueUnavailable as error:
    print(number, error)
"""


def test_it_does_what_every_queue_must(queue) -> None:
    """It passes the suite that every queue passes."""
    check_queue(lambda: queue)


def test_a_new_job_waits(queue, message) -> None:
    """A job that was put is queued, available at once, and has not been tried."""
    job = message("add", {"a": 1, "b": 2}, queue="sums")
    assert queue.put(job) is True
    status = queue.find_job(job.id)
    assert (status.id, status.job, status.queue) == (job.id, "add", "sums")
    assert (status.state, status.attempt, status.available_at) == ("queued", 0, status.created_at)
    assert (status.result, status.error, status.progress, status.batch_id) == (None,) * 4
    assert (status.started_at, status.finished_at) == (None, None)


def test_what_was_put_is_kept(jobs, message) -> None:
    """The table has payload, priority and trace as they were sent."""
    trace = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
    job = message("add", {"text": "ä\u2028\0😀"}, priority=-100, trace=trace)
    jobs.queue.put(job)
    row = jobs.row(job.id)
    assert row["payload"] == '{"text":"ä\u2028\\u0000😀"}'
    assert row["priority"] == -100
    assert row["trace"] == f'{{"traceparent":"{trace["traceparent"]}"}}'
    with pytest.raises(IdReused):
        jobs.queue.put(replace(job, payload={"text": "ä"}))
    assert jobs.queue.put(job) is False


def test_a_job_is_put_once(queue, message) -> None:
    """The same job again is False and changes nothing, whatever its delay and priority."""
    job = message(queue="first")
    queue.put(job)
    before = queue.find_job(job.id)
    assert queue.put(job) is False
    assert queue.put(replace(job, delay=60.0, priority=5)) is False
    assert queue.find_job(job.id) == before


def test_an_id_belongs_to_one_job(queue, message) -> None:
    """An id under which something else is known is refused, and what is known stays."""
    job = message("add", {"a": 1, "b": 2})
    queue.put(job)
    for other in (message("pid", id=job.id), message("add", {"a": 1, "b": 3}, id=job.id)):
        with pytest.raises(IdReused) as caught:
            queue.put(other)
        assert caught.value.id == job.id
    assert queue.find_job(job.id).job == "add"


def test_a_finished_job_stays_known(jobs, claimed, claims) -> None:
    """A job that has ended is still known by its id: a late second try starts nothing."""
    claim = claimed("add", {"a": 1, "b": 2}, id="late")
    claims.end_and_claim(claim, Ending(state="succeeded", result="3"), [])
    with pytest.raises(AssertionError):
        jobs.put("add", {"a": 1, "b": 2}, id="late")
    assert jobs.status("late").state == "succeeded"


def test_a_delayed_job_is_scheduled(queue, message) -> None:
    """A delay makes a job wait until its time, to the millisecond."""
    job = message(delay=61.5)
    queue.put(job)
    status = queue.find_job(job.id)
    assert status.state == "scheduled"
    assert status.available_at - status.created_at == timedelta(seconds=61.5)


def test_an_unknown_job(queue) -> None:
    """What is not known can be neither found nor cancelled."""
    assert queue.find_job("nobody") is None
    assert queue.cancel_job("nobody") is None


@pytest.mark.parametrize("delay", [0.0, 60.0], ids=["queued", "scheduled"])
def test_a_waiting_job_is_cancelled(jobs, claims, delay) -> None:
    """What waits becomes cancelled at once, and no worker gets it."""
    id = jobs.put(delay=delay)
    status = jobs.queue.cancel_job(id)
    assert (status.state, status.cancel_requested) == ("cancelled", True)
    assert status.finished_at >= status.created_at
    assert jobs.status(id) == status
    jobs.change(id, available_at=0)
    assert claims.claim(["default"]) is None


def test_a_running_job_is_asked_to_stop(jobs, claimed, claims) -> None:
    """What runs goes on running, and can see that it was asked to stop."""
    claim = claimed()
    assert claims.cancel_requested(claim) is False
    status = jobs.queue.cancel_job(claim.id)
    assert (status.state, status.cancel_requested, status.finished_at) == ("running", True, None)
    assert claims.cancel_requested(claim) is True


@pytest.mark.parametrize(
    "ending",
    [
        Ending(state="succeeded", result="7"),
        Ending.failed(JobError("exception", "ValueError", "no")),
    ],
    ids=["succeeded", "failed"],
)
def test_a_finished_job_is_not_cancelled(jobs, claimed, claims, ending) -> None:
    """Cancelling what is finished changes nothing."""
    claim = claimed()
    claims.end_and_claim(claim, ending, [])
    before = jobs.status(claim.id)
    assert jobs.queue.cancel_job(claim.id) == before
    assert (before.state, before.cancel_requested) == (ending.state, False)


def test_threads_put_at_once(queue, message, database) -> None:
    """Threads that put at the same time all have their jobs kept, each once."""
    start = threading.Barrier(8)

    def put(thread: int) -> list[bool]:
        start.wait()
        return [queue.put(message(id=f"{thread}-{number}")) for number in range(25)]

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(put, range(8))) == [[True] * 25] * 8
    with database.read() as connection:
        (count,) = connection.execute("SELECT count(DISTINCT id) FROM job").fetchone()
    assert count == 200


def test_threads_put_the_same_and_another(queue, message) -> None:
    """Of threads that put under one id one wins, and only those with its job are content."""
    start = threading.Barrier(8)
    offers = [message("add", {"a": number % 2}, id="one") for number in range(8)]

    def put(number: int) -> bool | None:
        start.wait()
        try:
            return queue.put(offers[number])
        except IdReused:
            return None

    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(put, range(8)))
    winner = outcomes.index(True)
    assert sorted(map(str, outcomes)) == ["False"] * 3 + ["None"] * 4 + ["True"]
    assert all((outcomes[n] is None) == (n % 2 != winner % 2) for n in range(8))


def test_forks_put_at_once(queue, script, path, database) -> None:
    """A fork may use the queue that its parent has used, at the same time."""
    process = script(PUT_FROM_FORKS, path)
    assert process.stdout.readline() == "[0, 0, 0, 0]\n"
    assert process.wait() == 0
    with database.read() as connection:
        (count,) = connection.execute("SELECT count(*) FROM job").fetchone()
        (verdict,) = connection.execute("PRAGMA integrity_check").fetchone()
    assert (count, verdict) == (1 + 25 + 4 * 25, "ok")


def test_files_are_for_their_owner_alone(jobs, start_work, path) -> None:
    """Database, log, locks and pipes are closed to others, whatever the umask."""
    work = start_work("--processes", "1", umask=0)
    id = jobs.put("pid", queue="more")
    jobs.ended(id)
    found = {path.name: path} | {each.name: each for each in path.parent.glob(f"{path.name}?*")}
    assert {"queue.sqlite3", "queue.sqlite3-wal", "queue.sqlite3-shm", "queue.sqlite3.d"} == set(
        found
    )
    kept = list(path.with_name(f"{path.name}.d").iterdir())
    assert {"worker", "supervisor", "wake", "migration.lock"} <= {
        each.name.partition("-")[0] for each in kept
    }
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in [*found.values(), *kept]}
    folder = modes.pop("queue.sqlite3.d")
    assert (folder, set(modes.values())) == (0o700, {0o600}), modes
    work.stop()


def test_a_put_is_durable(queue, path) -> None:
    """What is put is on the disk when put returns (FULL); a worker's writes may wait (NORMAL)."""
    levels = []
    for database in (queue._database, Database(path, durable=False)):
        with database.read() as connection:
            levels.append(connection.execute("PRAGMA synchronous").fetchone()[0])
        database.close()
    assert levels == [2, 1]


def test_a_locked_queue_is_unavailable(queue, message, database, monkeypatch) -> None:
    """A write lock that is held for too long is an error of ours, and passes."""
    job = message()
    queue.put(message())
    monkeypatch.setattr("dispatcher_local_queue.patience._PATIENCE", 0.1)
    with database.write():
        with pytest.raises(QueueUnavailable, match=r"queue\.sqlite3 is locked"):
            queue.put(job)
        with pytest.raises(QueueUnavailable, match=r"queue\.sqlite3 is locked"):
            queue.cancel_job(job.id)
        assert queue.find_job(job.id) is None
    assert queue.put(job) is True


def test_a_full_disk_loses_nothing(script, path, queue) -> None:
    """When the file cannot grow, put says so, and every job before is still there."""
    process = script(PUT_UNTIL_FULL, path)
    count, _, reason = process.stdout.readline().partition(" ")
    assert process.wait() == 0
    assert "queue.sqlite3" in reason
    assert "disk is full" in reason
    assert int(count) > 0
    assert all(queue.find_job(f"job-{number}") for number in range(int(count)))
    assert queue.find_job(f"job-{count}") is None


@contextmanager
def open_files_limited_to(count: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_no_more_open_files(path, message) -> None:
    """A process that has run out of descriptors gets an error of ours, and may try again."""
    queue = SQLiteQueue(path)
    with open_files_limited_to(3), pytest.raises(QueueUnavailable, match=r"queue\.sqlite3"):
        queue.put(message())
    assert queue.put(message()) is True
    queue.close()


def test_a_closed_queue_opens_again(queue, message) -> None:
    """Closing gives back what is open; the next call opens it anew."""
    job = message()
    queue.put(job)
    queue.close()
    assert queue.find_job(job.id).state == "queued"
    assert queue.put(job) is False


def test_living_workers_are_counted(queue, start_work) -> None:
    """It counts the worker processes that are alive."""
    assert queue.workers() == 0
    work = start_work("--processes", "2")
    assert queue.workers() == 2
    work.stop()
    assert queue.workers() == 0


@pytest.mark.parametrize("url", ["sqlite:///{}/q.db", "sqlite:///q.db"])
def test_a_url_names_a_file(url, tmp_path, monkeypatch, message) -> None:
    """A URL with three slashes is relative, one with four absolute."""
    monkeypatch.chdir(tmp_path)
    queue = SQLiteQueue.from_url(url.format(tmp_path))
    queue.put(message())
    queue.close()
    assert Path("q.db").is_file()


@pytest.mark.parametrize("url", ["sqlite://q.db", "sqlite:///", "q.db", ""])
def test_a_url_without_a_file(url) -> None:
    """A URL that names no file is refused with the way to write one."""
    with pytest.raises(ConfigError, match=r"names no file: .*sqlite:///relative/path"):
        SQLiteQueue.from_url(url)


def test_a_url_of_a_queue_that_nobody_offers() -> None:
    """Who misspells the scheme sees which queues are installed."""
    with pytest.raises(PluginNotFound, match=r"'sqlight': .*installed: .*sqlite"):
        SQLiteQueue.from_url("sqlight:///q.db")


@pytest.mark.parametrize("url", ["memory:", "memory://user:hunter2@host/x"])
def test_a_url_of_another_queue(url) -> None:
    """One that is installed is not served here; that is said, and no password."""
    with pytest.raises(ConfigError, match=r"only SQLite is served .*sqlite:///rel") as caught:
        SQLiteQueue.from_url(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", [b"caf\xe9", b"c#", b"what?", b"new\nline"])
def test_a_queue_in_a_folder_of_any_name(tmp_path, monkeypatch, message, name) -> None:
    """The queue that is the default works in every working directory."""
    folder = tmp_path / os.fsdecode(name)
    folder.mkdir()
    monkeypatch.chdir(folder)
    queue = SQLiteQueue.from_url(Config.load().queue_url)
    assert queue.put(message())
    queue.close()
    assert (folder / "dispatcher.sqlite3").is_file()


def test_waiting_jobs_are_counted(jobs, claimed) -> None:
    """Those that are queued or scheduled count, those that run or are finished do not."""
    assert jobs.queue.waiting(10) == 0
    claimed()
    jobs.queue.cancel_job(jobs.put())
    assert jobs.queue.waiting(10) == 0
    for delay in (0, 60):
        jobs.put(delay=delay)
    assert [jobs.queue.waiting(limit) for limit in (0, 1, 2, 3)] == [0, 1, 2, 2]


def test_waiting_jobs_are_counted_by_their_indexes(jobs, plan) -> None:
    """No count passes the table, nor more of an index than its limit says."""
    statements: list[str] = []
    steps: list[None] = []
    with jobs.queue._database.read() as connection:
        connection.set_trace_callback(statements.append)
        connection.set_progress_handler(lambda: steps.append(None), 1)
    costs = []
    for number in (50, 1000):
        with jobs.database.write() as connection:
            connection.executemany(
                "INSERT INTO job (id, name, queue, priority, state, available_at, created_at,"
                " payload) VALUES (?, 'add', 'default', 0, ?, 1, 1, '{}')",
                [(f"{number}-{n}", ("queued", "scheduled")[n % 2]) for n in range(number)],
            )
        steps.clear()
        assert jobs.queue.waiting(40) == 40
        costs.append(len(steps))
    assert 40 < costs[1] <= costs[0]
    (count,) = {text for text in statements if "count(*)" in text}
    lines = plan(count).splitlines()
    assert "SCAN job USING INDEX job_ready" in lines
    assert "SEARCH job USING INDEX job_due (available_at>?)" in lines
