"""The workers that are known, and what becomes of the jobs of dead ones."""

import os

import pytest

from dispatcher_core import JobError
from dispatcher_local_queue.claims import ClaimLost
from dispatcher_local_queue.endings import Ending
from dispatcher_local_queue.liveness import LifeLock, birth_of
from dispatcher_local_queue.registry import Recovered


def test_a_worker_that_entered_is_known(registry, enter) -> None:
    """A row tells of the process, so that others can look whether it is alive."""
    enter("ada", "boss")
    (worker,) = registry.workers()
    assert (worker.id, worker.supervisor, worker.pid) == ("ada", "boss", os.getpid())
    assert worker.birth == birth_of(os.getpid())
    assert worker.gone() is False


def test_a_worker_without_a_lock_file_is_not_dead(registry, enter) -> None:
    """Where the lock file is missing nothing is known, so nothing is taken away."""
    enter("ada")
    assert registry.workers()[0].dead() is False


def test_a_dead_workers_job_starts_again(jobs, claimed, registry, database) -> None:
    """Recovery puts the job back, forgets the worker and removes its file."""
    claim = claimed("add", {"a": 1}, queue="sums")
    path = database.files.worker_lock("ada")
    path.touch()
    (recovered,) = registry.recover("ada")
    assert recovered == Recovered(claim.id, "add", "queued", frozenset({"sums"}))
    row = jobs.row(claim.id)
    assert (row["state"], row["attempt"], row["kills"], row["worker"]) == ("queued", 0, 1, None)
    assert registry.workers() == []
    assert not path.exists()


def test_a_second_recovery_does_nothing(jobs, claimed, registry, enter) -> None:
    """Whoever comes second finds nothing to put back, though the job runs elsewhere by then."""
    claim = claimed()
    registry.recover("ada")
    enter("bob").claim(["default"])
    before = jobs.row(claim.id)
    assert registry.recover("ada") == []
    assert jobs.row(claim.id) == before


def test_an_innocent_put_back(jobs, claimed, registry) -> None:
    """A worker that was stopped on purpose does not count against its job."""
    claim = claimed()
    registry.recover("ada", killed=False)
    row = jobs.row(claim.id)
    assert (row["state"], row["attempt"], row["kills"]) == ("queued", 0, 0)


@pytest.mark.parametrize(("kills", "state"), [(1, "queued"), (2, "failed"), (3, "failed")])
def test_the_third_death_ends_the_job(jobs, claimed, registry, kills, state) -> None:
    """A job under which three workers died fails with worker-died; tries are not used up."""
    claim = claimed()
    jobs.change(claim.id, kills=kills)
    registry.recover("ada")
    row = jobs.row(claim.id)
    assert (row["state"], row["kills"], row["attempt"]) == (state, kills + 1, 0)
    assert row["error_code"] == ("worker-died" if state == "failed" else None)


def test_a_cancelled_job_does_not_start_again(jobs, claimed, registry) -> None:
    """A job that was asked to stop when its worker died is cancelled."""
    claim = claimed()
    jobs.queue.cancel_job(claim.id)
    (recovered,) = registry.recover("ada")
    assert (recovered.state, jobs.status(claim.id).state) == ("cancelled", "cancelled")


@pytest.mark.parametrize(("delay", "state"), [(None, "failed"), (500, "scheduled")])
def test_a_doomed_job(jobs, claimed, claims, registry, delay, state) -> None:
    """What the supervisor has decided on is what recovery writes, and it counts as a try."""
    claim = claimed()
    assert registry.doom("ada", claim.token, claim.token + 1, delay) is True
    with pytest.raises(ClaimLost):
        claims.end_and_claim(claim, Ending(state="succeeded"), [])
    assert jobs.status(claim.id).state == "running"
    registry.recover("ada")
    row = jobs.row(claim.id)
    assert (row["state"], row["attempt"], row["kills"]) == (state, 1, 0)
    assert (row["error_code"], row["error_type"]) == ("timed-out", "JobTimeout")


def test_a_run_that_has_ended_is_not_doomed(jobs, claimed, claims, registry) -> None:
    """A decision that comes too late hits neither the ended job nor the next one."""
    claim, waiting = claimed(), jobs.put()
    claims.end_and_claim(claim, Ending(state="succeeded"), ["default"])
    before = jobs.row(waiting)
    assert registry.doom("ada", claim.token, 1, None) is False
    assert (jobs.row(waiting), jobs.status(claim.id).state) == (before, "succeeded")


def test_the_next_run_is_not_doomed(jobs, claimed, registry, claims) -> None:
    """The mark of a timeout is gone when the job starts again."""
    claim = claimed()
    registry.doom("ada", claim.token, 1, 0)
    registry.recover("ada")
    again = claims.claim(["default"])
    claims.end_and_claim(again, Ending.retried(JobError("exception", "E", ""), 0), [])
    row = jobs.row(claim.id)
    assert (row["doom"], row["error_code"], row["attempt"]) == (None, "exception", 2)


def test_what_a_supervisors_workers_run(claimed, registry, enter, jobs) -> None:
    """A supervisor can tell what its workers run, and only they."""
    claim = claimed()
    jobs.put()
    enter("eve", "another").claim(["default"])
    assert registry.running_jobs("boss") == [(claim.id, "add")]
    assert registry.running_jobs("nobody") == []


def test_a_held_lock_means_alive(registry, enter, database) -> None:
    """A worker that holds its lock is alive for whoever looks."""
    enter("ada")
    lock = LifeLock(database.files.worker_lock("ada"))
    with registry.workers()[0].found_dead() as is_dead:
        assert is_dead is False
    lock.release()
