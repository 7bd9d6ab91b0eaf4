"""Deaths of workers and supervisors, and stopping."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from dispatcher_local_queue.endings import Ending
from dispatcher_local_queue.liveness import birth_of


@pytest.fixture
def notes(tmp_path):
    """Reads the lines that handlers have noted so far."""

    def notes() -> list[str]:
        path = tmp_path / "notes"
        return path.read_text().splitlines() if path.exists() else []

    return notes


@pytest.fixture
def hold(jobs, tmp_path, notes, wait_until):
    """Puts a job that waits until it is let go, and waits until it runs; tells id and pid."""

    def hold(job: str = "hold") -> tuple[str, int]:
        before = len(notes())
        id = jobs.put(job, {"folder": str(tmp_path)})
        wait_until(lambda: len(notes()) > before)
        return id, int(notes()[-1])

    return hold


@pytest.fixture
def let_go(tmp_path):
    """Lets every held job end."""
    return (tmp_path / "go").touch


def left_behind(path) -> list[str]:
    """The lock files in the queue's folder, but that of the migration."""
    locks = path.with_name(f"{path.name}.d").glob("*-*.lock")
    return sorted(each.name.partition("-")[0] for each in locks)


def await_probe(path, wait_until) -> None:
    """Wait until a supervisor has looked for dead ones: it removes what looks like one."""
    bait = path.with_name(f"{path.name}.d") / "supervisor-0000.lock"
    bait.touch()
    wait_until(lambda: not bait.exists())


# Workers that die


def test_a_killed_workers_job_runs_again(start_work, jobs, hold, notes, let_go, wait_until):
    """A worker killed in the middle of a job: the job starts again at once, elsewhere."""
    work = start_work("--processes", "2")
    id, pid = hold()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(notes()) == 2, timeout=10)
    let_go()
    status = jobs.ended(id)
    assert (status.state, status.attempt) == ("succeeded", 1)
    assert status.result == int(notes()[1]) != pid
    assert jobs.row(id)["kills"] == 1
    assert f"worker {pid} died (SIGKILL) while it ran job {id} hold: it starts again" in work.text


def test_recovery_is_quick(start_work, jobs, hold, let_go, wait_until, notes) -> None:
    """From the death of a worker to the next start of its job it takes less than 2 s."""
    start_work("--processes", "2")
    id, pid = hold()
    killed = time.time()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(notes()) == 2, timeout=10)
    assert jobs.row(id)["started_at"] / 1000 - killed < 2
    let_go()


def test_a_handler_that_vanishes(start_work, jobs, tmp_path, notes) -> None:
    """A job that ends its process three times fails with worker-died; others go on."""
    work = start_work("--processes", "1")
    id = jobs.put("vanish", {"folder": str(tmp_path)})
    status = jobs.ended(id)
    assert (status.state, status.error.code, status.attempt) == ("failed", "worker-died", 0)
    assert jobs.row(id)["kills"] == 3
    assert len(set(notes())) == 3
    assert "died (exit 9)" in work.text
    assert jobs.ended(jobs.put("add", {"a": 1, "b": 2})).result == 3
    assert work.stop() == 0
    assert "stopped: 1 failed, 1 succeeded; 2 put back" in work.text


def test_the_summary_counts_what_the_dead_had_done(start_work, jobs, tmp_path) -> None:
    """What a worker had done before it died is in the summary, as is what became of its job."""
    work = start_work("--processes", "1")
    ids = [jobs.put("add", {"a": 1, "b": 2}) for _ in range(3)]
    ids.append(jobs.put("litter", {"folder": str(tmp_path)}))
    assert {jobs.ended(id).state for id in ids} == {"succeeded"}
    assert work.stop() == 0
    assert "stopped: 4 succeeded; 1 put back" in work.text


def test_a_worker_that_lost_its_lock_file(start_work, jobs, hold, let_go, path, wait_until):
    """Without its lock file a worker ends its job, then leaves; another takes its place."""
    start_work("--processes", "1")
    id, pid = hold()
    (worker,) = jobs.workers()
    path.with_name(f"{path.name}.d").joinpath(f"worker-{worker.id}.lock").unlink()
    let_go()
    assert jobs.ended(id).result == pid
    assert jobs.ended(jobs.put("pid")).result != pid
    assert jobs.row(id)["kills"] == 0
    assert [each.id == worker.id for each in jobs.workers()] == [False]


def test_a_worker_that_lost_its_job(start_work, jobs, hold, let_go, registry, wait_until):
    """A worker whose job went to another writes nothing, leaves, and is replaced."""
    work = start_work("--processes", "1")
    id, pid = hold()
    (worker,) = jobs.workers()
    registry.recover(worker.id)
    jobs.change(id, state="cancelled", finished_at=1)
    let_go()
    assert jobs.ended(jobs.put("pid")).result != pid
    assert jobs.status(id).state == "cancelled"
    assert "not this worker's any more" in work.text


def test_many_kills(start_work, jobs, tmp_path, notes, wait_until) -> None:
    """Whatever worker is killed at whatever moment, each job ends, once, with its result."""
    work = start_work("--processes", "2")
    ids: list[str] = []
    kills = 0
    while kills < 6:
        ids += [jobs.put("pid", {"folder": str(tmp_path)}) for _ in range(30)]
        jobs.reached(ids[-random.randint(1, 30)], "running", "succeeded")
        worker = random.choice(wait_until(jobs.workers))
        with suppress(ProcessLookupError):  # it was killed before, and that is being seen to
            os.kill(worker.pid, signal.SIGKILL)
            kills += 1
    assert {jobs.ended(id).state for id in ids} == {"succeeded"}
    runs = notes()
    assert set(runs) == set(ids)
    assert len(runs) <= len(ids) + kills
    assert sum(jobs.row(id)["kills"] for id in ids) <= kills
    assert work.stop() == 0


# Supervisors that die


def test_a_killed_supervisor(start_work, jobs, hold, let_go, path, notes, wait_until) -> None:
    """Its workers end what they run, once, and leave; the next supervisor cleans up."""
    first = start_work("--processes", "2")
    id, _ = hold()
    first.signal(signal.SIGKILL)
    first.wait()
    wait_until(lambda: len(jobs.workers()) == 1)  # the idle one has gone
    second = start_work("--processes", "1")
    await_probe(path, wait_until)
    assert jobs.status(id).state == "running"
    let_go()
    status = jobs.ended(id)
    assert (status.state, status.result, len(notes())) == ("succeeded", int(notes()[0]), 1)
    wait_until(lambda: len(jobs.workers()) == 1)
    assert left_behind(path) == ["supervisor", "worker"]
    assert second.stop() == 0
    assert (jobs.workers(), left_behind(path)) == ([], [])


def test_everybody_is_killed(start_work, jobs, hold, let_go, path, notes, wait_until) -> None:
    """When supervisor and workers are killed, the next supervisor starts their jobs again."""
    first = start_work("--processes", "1")
    id, pid = hold()
    first.signal(signal.SIGKILL)
    first.wait()
    os.kill(pid, signal.SIGKILL)
    second = start_work("--processes", "1")
    wait_until(lambda: len(notes()) == 2)
    let_go()
    assert jobs.ended(id).state == "succeeded"
    assert (jobs.row(id)["kills"], jobs.status(id).attempt) == (1, 1)
    assert f"worker {pid} of another supervisor died while it ran job {id} hold" in second.text
    assert second.stop() == 0
    assert left_behind(path) == []


def test_a_suspended_worker_keeps_its_job(
    start_work, jobs, hold, let_go, path, notes, wait_until
) -> None:
    """A worker that is stopped, with its supervisor, is alive: nobody takes its job."""
    first = start_work("--processes", "1")
    id, pid = hold()
    first.signal(signal.SIGSTOP)
    os.kill(pid, signal.SIGSTOP)
    start_work("--processes", "1")
    for _ in range(2):
        await_probe(path, wait_until)
    assert (jobs.status(id).state, len(notes())) == ("running", 1)
    os.kill(pid, signal.SIGCONT)
    first.signal(signal.SIGCONT)
    let_go()
    assert jobs.ended(id).result == pid
    assert jobs.row(id)["kills"] == 0


def test_a_pid_that_another_has_now(start_work, jobs, claimed, path, database, wait_until):
    """A dead worker's pid may belong to somebody by now, whose processes are left alone."""
    claim = claimed("add", {"a": 1, "b": 2})
    bystander = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, process_group=0
    )
    boot, namespace, start = birth_of(bystander.pid).split()
    earlier = f"{boot} {namespace} {int(start) - 1}"
    database.files.worker_lock("ada").touch()
    with database.write() as connection:
        connection.execute("UPDATE worker SET pid = ?, birth = ?", (bystander.pid, earlier))
    start_work("--processes", "1")
    assert jobs.ended(claim.id).result == 3
    assert bystander.poll() is None
    bystander.communicate(b"\n")
    assert bystander.wait() == 0


def test_two_supervisors(start_work, jobs, tmp_path, notes) -> None:
    """Two supervisors share a queue: every job runs once."""
    works = [start_work("--processes", "2") for _ in range(2)]
    ids = [jobs.put("pid", {"folder": str(tmp_path)}) for _ in range(100)]
    assert {jobs.ended(id).state for id in ids} == {"succeeded"}
    assert sorted(notes()) == sorted(ids)
    assert [work.stop() for work in works] == [0, 0]


# Stopping


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_graceful_stop(start_work, jobs, hold, let_go, path, number, wait_until) -> None:
    """TERM and INT let what runs end, start nothing more, and leave nothing behind."""
    work = start_work("--processes", "2")
    id, _ = hold()
    work.signal(number)
    work.signal(number)  # a terminal and a service manager may both pass one on
    wait_until(lambda: f"waiting for job {id} hold" in work.text)
    wait_until(lambda: "again to force" in work.text)
    waiting = jobs.put("pid")
    let_go()
    assert work.wait() == 0
    assert (jobs.status(id).state, jobs.status(waiting).state) == ("succeeded", "queued")
    assert (jobs.workers(), left_behind(path)) == ([], [])
    assert "stopped: 1 succeeded; 0 put back" in work.text


def test_a_signal_to_the_whole_group(start_work, jobs, hold, let_go) -> None:
    """Workers that get the signal too go on: only their supervisor acts on it."""
    work = start_work("--processes", "1")
    id, pid = hold()
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(pid, number)
    work.signal(signal.SIGTERM)
    let_go()
    assert work.wait() == 0
    assert jobs.status(id).result == pid


def test_a_second_signal_forces(start_work, jobs, hold, path, wait_until) -> None:
    """A second TERM ends what runs: the jobs go back, uncounted, and the exit code is 1."""
    work = start_work("--processes", "2")
    id, _ = hold()
    work.signal(signal.SIGTERM)
    wait_until(lambda: "again to force" in work.text)
    sent = time.monotonic()
    wait_until(lambda: time.monotonic() > sent + 1)  # what comes within a second is one request
    work.signal(signal.SIGTERM)
    assert work.wait() == 1
    row = jobs.row(id)
    assert (row["state"], row["attempt"], row["kills"]) == ("queued", 0, 0)
    assert (jobs.workers(), left_behind(path)) == ([], [])
    assert "1 put back" in work.text


def test_killed_while_it_stops(start_work, jobs, hold, wait_until) -> None:
    """A worker that dies during a stop leaves its job behind: the exit code says so."""
    work = start_work("--processes", "1")
    id, pid = hold()
    work.signal(signal.SIGTERM)
    wait_until(lambda: "again to force" in work.text)
    os.kill(pid, signal.SIGKILL)
    assert work.wait() == 1
    assert jobs.status(id).state == "queued"
    assert "1 put back" in work.text


def test_the_end_of_patience(start_work, jobs, hold) -> None:
    """When --shutdown-timeout is over, it ends as after a second signal."""
    work = start_work("--processes", "1", "--shutdown-timeout", "0.2")
    id, _ = hold()
    work.signal(signal.SIGTERM)
    assert work.wait() == 1
    row = jobs.row(id)
    assert (row["state"], row["attempt"], row["kills"]) == ("queued", 0, 0)


def test_a_forced_stop_of_a_cancelled_job(start_work, jobs, hold) -> None:
    """A job that was asked to stop does not go back when it is forced to."""
    work = start_work("--processes", "1", "--shutdown-timeout", "0.2")
    id, _ = hold()
    jobs.queue.cancel_job(id)
    work.signal(signal.SIGTERM)
    assert work.wait() == 0
    assert jobs.status(id).state == "cancelled"
    assert "stopped: 1 cancelled; 0 put back" in work.text


def test_stopping_at_once(start_work, wait_until) -> None:
    """A stop while the workers start is as clean as a later one."""
    work = start_work("--processes", "2", until="serving")
    pid = work.process.pid
    wait_until(lambda: Path(f"/proc/{pid}/task/{pid}/children").read_text())
    work.signal(signal.SIGTERM)
    assert work.wait() == 0


# The queue's file


def test_a_locked_file(start_work, jobs, path) -> None:
    """While somebody else holds the write lock jobs wait, then they run."""
    start_work("--processes", "1")
    blocker = sqlite3.connect(path, isolation_level=None)
    id = jobs.put("add", {"a": 1, "b": 2}, delay=0.2)
    blocker.execute("BEGIN IMMEDIATE")
    assert jobs.status(id).state == "scheduled"
    blocker.execute("ROLLBACK")
    blocker.close()
    assert jobs.ended(id).result == 3


def test_a_file_that_is_replaced(start_work, jobs, path, wait_until, queue) -> None:
    """When the file is taken away, workers go on with the one that takes its place."""
    start_work("--processes", "1")
    jobs.ended(jobs.put("pid"))
    for part in path.parent.glob(f"{path.name}*"):
        if part.is_file():
            part.unlink()
    assert jobs.ended(jobs.put("add", {"a": 1, "b": 2})).result == 3


def test_a_late_end_is_no_other_runs_end(claimed, claims, registry, jobs) -> None:
    """An ending that was decided for one run never ends the next."""
    first = claimed()
    registry.recover("ada", killed=False)
    second = claims.claim(["default"])
    assert second.id == first.id
    with pytest.raises(Exception, match=r"^$"):
        claims.end_and_claim(first, Ending(state="succeeded"), [])
    assert jobs.status(first.id).state == "running"
