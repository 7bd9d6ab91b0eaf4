import os
from contextlib import closing

import pytest

from dispatcher_core.errors import QueueError
from dispatcher_core.status import JobError
from dispatcher_local_queue.admin import Admin
from dispatcher_local_queue.database import now_ms
from dispatcher_local_queue.endings import Ending
from dispatcher_local_queue.liveness import LifeLock
from dispatcher_local_queue.wakeup import Bells

HOUR = 3_600_000
FAILURE = Ending.failed(JobError("exception", "ValueError", "no luck"))


@pytest.fixture
def admin(database):
    with closing(Admin(database)) as admin:
        yield admin


@pytest.fixture
def failed(claimed, claims):
    """Puts a job that has run and failed, and tells its id."""

    def failed(**options):
        claim = claimed(**options)
        claims.report_progress(claim, 1, 2)
        claims.end_and_claim(claim, FAILURE, [])
        return claim.id

    return failed


def test_stats_of_a_new_queue(admin):
    """No queue is known, nobody works; the file has its tables already."""
    stats = admin.stats()
    assert (stats.queues, stats.workers, stats.supervisors) == ((), 0, 0)
    assert stats.file_size + stats.log_size > 0


def test_stats_count_by_queue_and_state(admin, jobs, claimed, failed):
    """Each queue has its own counts, and those that are paused are told, empty ones too."""
    failed(queue="emails")
    failed(queue="emails")
    claimed(queue="reports")
    jobs.put(queue="reports", delay=60)
    jobs.put(queue="reports")
    admin.pause("reports")
    admin.pause("unused")
    emails, reports, unused = admin.stats().queues
    assert (emails.queue, emails.paused, emails.counts["failed"]) == ("emails", False, 2)
    assert sum(emails.counts.values()) == 2
    assert (reports.queue, reports.paused) == ("reports", True)
    assert {state: count for state, count in reports.counts.items() if count} == {
        "queued": 1,
        "running": 1,
        "scheduled": 1,
    }
    assert (unused.queue, unused.paused, sum(unused.counts.values())) == ("unused", True, 0)


def test_stats_tell_how_long_the_oldest_waits(admin, jobs, failed):
    """It counts from when the job could have started; a delay that goes on is no waiting."""
    failed(queue="a")
    jobs.put(queue="b", delay=60)
    jobs.change(jobs.put(queue="c"), available_at=now_ms() - 30_000)
    jobs.put(queue="c")
    jobs.change(jobs.put(queue="d", delay=60), available_at=now_ms() - 30_000)
    a, b, c, d = (each.oldest_waiting for each in admin.stats().queues)
    assert (a, b) == (None, None)
    assert 30 <= c < 60
    assert 30 <= d < 60


def test_stats_count_who_is_alive(admin, database, enter):
    """Workers and supervisors that hold their locks are counted."""
    database.files.make_folder()
    locks = [LifeLock(database.files.worker_lock("ada"))]
    locks.append(LifeLock(database.files.supervisor_lock("boss")))
    enter("ada")
    stats = admin.stats()
    assert (stats.workers, stats.supervisors) == (1, 1)
    for lock in locks:
        lock.release()


def test_the_latest_jobs_come_first(admin, jobs):
    """Whatever their priority, and no more than asked for."""
    ids = [jobs.put(priority=priority) for priority in (0, 9, -9)]
    assert [job.id for job in admin.jobs()] == ids[::-1]
    assert [job.id for job in admin.jobs(limit=2)] == ids[:0:-1]


def test_jobs_are_found_by_state_and_queue(admin, jobs, failed, claimed):
    """One of them, or both together."""
    a, b = failed(queue="a"), failed(queue="b")
    running = claimed(queue="a").id
    scheduled, queued = jobs.put(queue="a", delay=9), jobs.put(queue="a")
    found = {
        state: [job.id for job in admin.jobs(state=state)]
        for state in ("queued", "scheduled", "running", "succeeded", "failed", "cancelled")
    }
    assert found == {
        "queued": [queued],
        "scheduled": [scheduled],
        "running": [running],
        "succeeded": [],
        "failed": [b, a],
        "cancelled": [],
    }
    assert [job.id for job in admin.jobs(queue="a")] == [queued, scheduled, running, a]
    assert [job.id for job in admin.jobs(state="failed", queue="b")] == [b]


def test_an_unknown_state_is_a_mistake(admin):
    """It never gets into a statement."""
    with pytest.raises(ValueError, match="no state"):
        admin.jobs(state="failed' OR '1")


def test_failed_and_running_jobs_are_found_without_a_look_at_others(plan):
    """However many jobs have succeeded."""
    columns = "SELECT id FROM job WHERE queue = coalesce(?, queue) AND "
    failed = plan(f"{columns} state = 'failed' ORDER BY seq DESC LIMIT 9", None)
    assert failed == "SCAN job USING INDEX job_failed"
    running = plan(f"{columns} state = 'running' ORDER BY +seq DESC LIMIT 9", None)
    assert "job_running" in running


def test_a_job_is_shown_whole(admin, jobs, failed):
    """With its status, payload and what its sender does not see."""
    id = failed(job="add", payload={"a": [1, "ü"]}, priority=7)
    jobs.change(id, kills=2)
    found = admin.find(id)
    assert found.status == jobs.status(id)
    assert (found.priority, found.kills, found.payload) == (7, 2, {"a": [1, "ü"]})
    assert admin.find("nobody") is None


def test_a_failed_job_starts_anew(admin, jobs, claims, failed):
    """Nothing of its first life remains but its record, place, payload and id."""
    id = failed(payload={"a": 1})
    jobs.change(id, kills=2, cancel_requested=1, result="7", unknown_since=1)
    before = jobs.row(id)
    admin.retry(id)
    row = jobs.row(id)
    fresh = {"state": "queued", "attempt": 0, "kills": 0, "cancel_requested": 0}
    assert {name: row[name] for name in fresh} == fresh
    cleared = [
        *("result", "error_code", "error_type", "error_message", "finished_at", "started_at"),
        *("progress_done", "progress_total", "unknown_since", "worker", "token", "doom"),
    ]
    assert {name: row[name] for name in cleared} == dict.fromkeys(cleared)
    kept = ("seq", "payload", "queue", "priority", "created_at")
    assert {name: row[name] for name in kept} == {name: before[name] for name in kept}
    assert row["available_at"] >= before["finished_at"]
    assert claims.claim(["default"]).attempt == 1


def test_a_cancelled_job_starts_anew(admin, jobs, queue, claims):
    """It is not cancelled again as soon as it runs."""
    id = jobs.put()
    queue.cancel_job(id)
    admin.retry(id)
    claim = claims.claim(["default"])
    assert claim.id == id
    assert not claims.cancel_requested(claim)


def test_a_retry_wakes_a_worker(admin, database, failed):
    """A nudge lies in the pipe of the job's queue."""
    bells = Bells(database.files)
    id = failed(queue="emails")
    bells.silence(["emails"])
    admin.retry(id)
    assert os.read(bells.pipe("emails"), 10) == b"\0"
    bells.close()


@pytest.mark.parametrize("state", ["queued", "scheduled", "running", "succeeded"])
def test_what_did_not_fail_is_not_retried(admin, jobs, state):
    """The job stays as it is, and the refusal says what it is."""
    id = jobs.put()
    jobs.change(id, state=state)
    with pytest.raises(QueueError, match=f"{id} is {state}: only a failed or cancelled"):
        admin.retry(id)
    assert jobs.status(id).state == state


def test_a_job_of_a_batch_is_not_retried(admin, jobs, failed):
    """The batch has counted it; neither by its id nor with all others."""
    id = failed()
    jobs.change(id, batch_id="b-1")
    with pytest.raises(QueueError, match="belongs to batch b-1"):
        admin.retry(id)
    assert admin.retry_all() == 0
    assert jobs.status(id).state == "failed"


@pytest.mark.parametrize("act", ["retry", "forget"])
def test_an_unknown_job_is_refused(admin, act):
    """By its id."""
    with pytest.raises(QueueError, match="there is no job 'nobody'"):
        getattr(admin, act)("nobody")


def test_all_failed_jobs_start_anew(admin, jobs, database, queue, failed):
    """Those of every queue, more than one step's worth, and only those that failed."""
    others = [jobs.put(), jobs.put()]
    queue.cancel_job(others[1])
    with database.write() as connection:
        connection.executemany(
            "INSERT INTO job (id, name, queue, priority, state, created_at, payload)"
            " VALUES (?, 'add', ?, 0, 'failed', 0, '{}')",
            ((f"f{number}", "ab"[number % 2]) for number in range(1100)),
        )
    assert admin.retry_all("b") == 550
    assert admin.retry_all() == 550
    assert admin.retry_all() == 0
    counts = {each.queue: each.counts for each in admin.stats().queues}
    assert [counts[name]["queued"] for name in ("a", "b", "default")] == [550, 550, 1]
    assert counts["default"]["cancelled"] == 1


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled"])
def test_a_finished_job_can_be_forgotten(admin, jobs, state):
    """An hour after its end, and its record is gone."""
    id = jobs.put()
    jobs.change(id, state=state, finished_at=now_ms() - HOUR)
    admin.forget(id)
    assert admin.find(id) is None


def test_a_job_is_remembered_for_an_hour(admin, jobs, failed):
    """A repeated request must find it."""
    id = failed()
    jobs.change(id, finished_at=now_ms() - HOUR + 60_000)
    with pytest.raises(QueueError, match="less than an hour ago"):
        admin.forget(id)
    assert jobs.status(id).state == "failed"


@pytest.mark.parametrize("state", ["queued", "scheduled", "running"])
def test_a_job_that_goes_on_cannot_be_forgotten(admin, jobs, state):
    """It would be lost."""
    id = jobs.put()
    jobs.change(id, state=state)
    with pytest.raises(QueueError, match=f"is {state}: only a finished one"):
        admin.forget(id)
    assert jobs.status(id).state == state


def test_old_jobs_are_pruned(admin, jobs, failed):
    """Those that succeeded or were cancelled before the time given; failed ones stay."""
    kept = [failed(), jobs.put(), jobs.put()]
    jobs.change(kept[0], finished_at=1)
    jobs.change(kept[2], state="succeeded", finished_at=now_ms() - HOUR)
    for state in ("succeeded", "cancelled"):
        jobs.change(jobs.put(), state=state, finished_at=now_ms() - 3 * HOUR)
    assert admin.prune(7200) == 2
    assert admin.prune(7200) == 0
    assert [job.id for job in admin.jobs()] == kept[::-1]


def test_what_is_younger_than_an_hour_is_not_pruned(admin, jobs):
    """Whatever is asked for."""
    jobs.change(jobs.put(), state="succeeded", finished_at=now_ms())
    with pytest.raises(QueueError, match="an hour at least"):
        admin.prune(3599)
    assert len(admin.jobs()) == 1
