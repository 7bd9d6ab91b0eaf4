import os

import pytest

from dispatcher_local_queue.admin import Admin
from dispatcher_local_queue.wakeup import Bells


@pytest.fixture
def admin(database):
    return Admin(database)


def cost(database, act):
    """The instructions that SQLite's virtual machine needs for what ``act`` does."""
    count = 0

    def note():
        nonlocal count
        count += 1

    for handler in (note, None):
        with database.read() as connection:  # the one connection, which the act will use too
            connection.set_progress_handler(handler, 1)
        if handler:
            act()
    return count


def test_a_paused_queue_gives_no_job(jobs, admin, claims):
    """Its jobs are accepted and wait; nobody is told that there is something to do."""
    assert admin.pause("emails") is True
    id = jobs.put(queue="emails")
    assert not claims.work_waits(["emails"])
    assert claims.claim(["emails"]) is None
    assert jobs.status(id).state == "queued"


def test_a_resumed_queue_gives_its_jobs_in_their_order(jobs, admin, claims):
    """What came while it was paused starts as if nothing had been."""
    admin.pause("emails")
    expected = [jobs.put(queue="emails", priority=1), jobs.put(queue="emails")]
    assert admin.resume("emails") is True
    assert claims.work_waits(["emails"])
    assert [claims.claim(["emails"]).id for _ in expected] == expected


def test_the_queues_behind_a_paused_one_are_served(jobs, admin, claims):
    """A pause concerns the queue that it names and no other."""
    admin.pause("emails")
    jobs.put(queue="emails")
    id = jobs.put(queue="default")
    assert claims.work_waits(["emails", "default"])
    assert claims.claim(["emails", "default"]).id == id


def test_a_due_job_of_a_paused_queue_lets_its_worker_sleep(jobs, admin, claims):
    """Once its delay is over it waits like the others, and nobody looks for it over and over."""
    id = jobs.put(queue="emails", delay=60)
    admin.pause("emails")
    jobs.change(id, available_at=1)
    assert claims.claim(["emails"]) is None
    assert jobs.status(id).state == "queued"
    assert not claims.work_waits(["emails"])
    assert claims.next_due() is None


def test_many_jobs_of_a_paused_queue_cost_nothing(jobs, database, admin, claims):
    """A claim passes a paused queue without a look at its jobs."""
    admin.pause("emails")
    few = cost(database, lambda: claims.claim(["emails"]))
    for _ in range(200):
        jobs.put(queue="emails")
    many = cost(database, lambda: claims.claim(["emails"]))
    assert 0 < many <= few + 20


def test_pausing_twice_is_pausing_once(admin):
    """It says whether anything changed."""
    assert [admin.pause("a"), admin.pause("a")] == [True, False]
    assert [admin.resume("a"), admin.resume("a")] == [True, False]


def test_resuming_wakes_a_sleeping_worker(jobs, database, admin):
    """A nudge lies in the queue's pipe as soon as it is resumed."""
    bells = Bells(database.files)
    jobs.put(queue="emails")
    admin.pause("emails")
    bells.silence(["emails"])
    admin.resume("emails")
    assert os.read(bells.pipe("emails"), 10) == b"\0"
    bells.close()


def test_a_worker_leaves_a_paused_queue_alone(start_work, jobs, admin, tmp_path, wait_until):
    """What runs ends normally, what waits there stays, others are served, until it is resumed."""
    start_work("--processes", "1")
    running = jobs.put("hold", {"folder": str(tmp_path)}, queue="emails")
    wait_until((tmp_path / "notes").exists)
    admin.pause("emails")
    waiting = jobs.put(payload={"a": 1, "b": 2}, queue="emails", priority=100)
    other = jobs.put(payload={"a": 3, "b": 4}, queue="reports")
    (tmp_path / "go").touch()
    assert jobs.ended(running).state == "succeeded"
    assert jobs.ended(other).result == 7
    assert jobs.status(waiting).state == "queued"
    admin.resume("emails")
    assert jobs.ended(waiting).result == 3


def test_a_burst_does_not_wait_for_a_paused_queue(start_work, jobs, admin):
    """``--burst`` ends when nothing is left that may start."""
    admin.pause("emails")
    waiting = jobs.put(payload={"a": 1, "b": 2}, queue="emails")
    other = jobs.put(payload={"a": 1, "b": 2})
    work = start_work("--processes", "1", "--burst", "--queues", "emails,default")
    assert work.wait() == 0
    assert jobs.status(other).state == "succeeded"
    assert jobs.status(waiting).state == "queued"
