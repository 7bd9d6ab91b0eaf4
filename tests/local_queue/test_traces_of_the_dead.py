"""What is left of workers and supervisors that were killed at an awkward moment."""

import logging
import os
import subprocess

import pytest

from dispatcher_local_queue.leading import leading
from dispatcher_local_queue.liveness import birth_of, group_runs


def test_a_lock_without_a_row_goes_once_its_owner_is_dead(database, registry, enter) -> None:
    """A worker that died before it had a row leaves a file, which nobody else would remove."""
    enter("ada")
    died_early, alive, recorded = map(database.files.worker_lock, ("bob", "eve", "ada"))
    for path in (died_early, alive, recorded):
        path.touch()
    with leading(alive) as locked:
        assert locked
        registry.remove_dead_locks()
    assert not died_early.exists()
    assert alive.exists()
    assert recorded.exists()


@pytest.fixture
def stranger():
    """A program that leads a process group and has nothing to do with the queue."""
    with subprocess.Popen(["sleep", "600"], process_group=0) as process:
        yield process
        process.kill()


@pytest.fixture
def dead_worker(database, jobs, registry):
    """Enters a worker of a dead supervisor that had this pid long ago, with a job."""

    def enter(pid: int) -> str:
        id = jobs.put("add", {"a": 1, "b": 2})
        registry.enter("ada", "dead", pid)
        database.files.worker_lock("ada").touch()
        with database.write() as connection:
            connection.execute("UPDATE worker SET birth = birth || '0'")
            connection.execute(
                "UPDATE job SET state = 'running', attempt = 1, worker = 'ada', token = 1"
            )
        return id

    return enter


def test_who_has_a_dead_workers_pid_by_now_is_left_alone(
    jobs, start_work, dead_worker, stranger
) -> None:
    """The job goes back, but no process group is killed that is another program's."""
    id = dead_worker(stranger.pid)
    assert birth_of(stranger.pid)
    work = start_work("--processes", "1")
    assert jobs.ended(id).state == "succeeded"
    assert stranger.poll() is None
    assert work.stop() == 0


def test_a_failing_checkpoint_fails_no_commit(jobs, database, caplog) -> None:
    """The caller is told that its job is stored, for it is; the log is written back later."""
    jobs.put()
    database.files.leader_lock.unlink(missing_ok=True)
    database.files.leader_lock.mkdir()
    with caplog.at_level(logging.WARNING), database.write(1_000_000) as connection:
        connection.execute("UPDATE job SET name = 'kept'")
    assert "is not written back" in caplog.text
    with database.read() as connection:
        assert connection.execute("SELECT name FROM job").fetchall() == [("kept",)]


def test_workers_that_die_under_jobs_are_replaced_at_once(jobs, start_work, application) -> None:
    """The pause of those that die as they start is not for them: each job ends after three."""
    folder = application(
        "import os, signal\n"
        "from dispatcher_core import job\n"
        "@job('die')\n"
        "def die() -> None:\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    work = start_work("--processes", "1", app_dir=folder)
    ids = [jobs.put("die") for _ in range(4)]
    for id in ids:
        status = jobs.ended(id, timeout=60)
        assert (status.state, status.error.code) == ("failed", "worker-died")
    assert "die as soon as they start" not in work.text


NEGLIGENT = """
import os, signal, subprocess
child = subprocess.Popen(["sleep", "600"], process_group=0)
print(child.pid, flush=True)
input()
child.kill()
os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
print("killed", flush=True)
input()
"""


def test_a_group_of_zombies_does_not_run(script) -> None:
    """Who waits for a killed group's end does not wait for a parent that forgets its children."""
    parent = script(NEGLIGENT)
    group = int(parent.stdout.readline())
    assert group_runs(group)
    print(file=parent.stdin, flush=True)
    assert parent.stdout.readline() == "killed\n"
    os.killpg(group, 0)  # it is still there
    assert not group_runs(group)
