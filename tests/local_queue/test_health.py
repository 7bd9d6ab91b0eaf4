"""Whether work goes on."""

import json
import os
import signal

from dispatcher_local_queue.health import Health, check_health


def test_no_queue(database, path) -> None:
    """Where there is no queue, that is said, and none is made."""
    health = check_health(database)
    assert health == Health(0, 0, f"there is no queue at {path}")
    assert list(path.parent.iterdir()) == []


def test_no_supervisor(queue, message, database) -> None:
    """A queue that nobody works on is not healthy, and the message says what to start."""
    queue.put(message())
    health = check_health(database)
    assert (health.supervisors, health.workers) == (0, 0)
    assert "dispatcher work" in health.error


def test_no_queue_of_ours(database, path) -> None:
    """What is wrong with the file is the answer, not a traceback."""
    path.write_text("no database\n" * 100)
    assert "no SQLite database" in check_health(database).error


def test_somebody_works(start_work, database, wait_until) -> None:
    """With a supervisor alive all is well; once it is killed it does not count."""
    work = start_work("--processes", "2")
    assert check_health(database) == Health(1, 2, None)
    work.signal(signal.SIGKILL)
    work.wait()
    assert check_health(database).supervisors == 0
    assert "dispatcher work" in check_health(database).error


def test_a_suspended_supervisor_is_alive(start_work, database) -> None:
    """A supervisor that is stopped by a debugger or a full machine is not dead."""
    work = start_work("--processes", "1")
    work.signal(signal.SIGSTOP)
    os.waitid(os.P_PID, work.process.pid, os.WSTOPPED | os.WNOWAIT)
    assert check_health(database).supervisors == 1
    work.signal(signal.SIGCONT)


def test_the_command(start_work, dispatcher, path) -> None:
    """``dispatcher health`` is 0 while somebody works and 1 else, for people and programs."""
    sick = dispatcher("health")
    assert (sick.returncode, sick.stdout) == (1, "")
    assert sick.stderr == f"dispatcher: there is no queue at {path}\n"
    work = start_work("--processes", "1")
    well, told = dispatcher("health"), dispatcher("health", "--json")
    assert (well.returncode, well.stderr) == (0, "")
    assert well.stdout == "ok: 1 supervisor(s), 1 worker process(es) alive\n"
    assert json.loads(told.stdout) == {
        "status": "ok",
        "supervisors": 1,
        "workers": 1,
        "error": None,
    }
    work.stop()
    told = dispatcher("health", "--json")
    assert told.returncode == 1
    assert json.loads(told.stdout)["status"] == "unavailable"
