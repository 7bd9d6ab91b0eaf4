"""Batches in the file: acceptance, counters, callbacks, cancelling, adding, pruning."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from dispatcher_core.batch_wire import BatchMessage, decode_batch, encode_batch
from dispatcher_core.errors import BatchClosed, IdReused
from dispatcher_core.jobs import Job
from dispatcher_core.status import JobError
from dispatcher_local_queue import SQLiteQueue
from dispatcher_local_queue.claims import Claim, Claims
from dispatcher_local_queue.endings import Ending
from dispatcher_local_queue.maintenance import Sweep, batch_step

SUCCEEDED = Ending(state="succeeded")
FAILED = Ending.failed(JobError("exception", "ValueError", "no"))


def batch_of(*jobs: Job, id: str = "batch", **options: object) -> BatchMessage:
    """A batch as the receiver decodes it."""
    return decode_batch(id, encode_batch(jobs, "default", datetime.now(UTC), **options))


def numbered(count: int, **options: object) -> list[Job]:
    """Jobs with the ids job-0, job-1, ..."""
    return [Job("work", {"n": number}, id=f"job-{number}", **options) for number in range(count)]


CALLBACKS = {
    "then": Job("then", id="then"),
    "catch": Job("catch", id="catch"),
    "finally_": Job("finally", id="finally"),
}


def callbacks(queue: SQLiteQueue) -> tuple[str, ...]:
    """The states of then, catch and finally."""
    return tuple(queue.find_job(id).state for id in ("then", "catch", "finally"))


def counters(queue: SQLiteQueue, id: str = "batch") -> tuple[object, ...]:
    """State, total, pending, succeeded, failed and cancelled of a batch."""
    found = queue.find_batch(id)
    return (
        *(found.state, found.total, found.pending),
        *(found.succeeded, found.failed, found.cancelled),
    )


def end_next(claims: Claims, ending: Ending) -> Claim:
    """Claim the next job and end it."""
    claim = claims.claim(["default"])
    assert claim is not None
    claims.end_and_claim(claim, ending, [])
    return claim


def test_a_batch_is_kept_once(queue):
    """The same batch put again is known, and its ids are told."""
    assert queue.put_batch(batch_of(*numbered(3), **CALLBACKS)) is None
    assert queue.put_batch(batch_of(*numbered(3), **CALLBACKS)) == ("job-0", "job-1", "job-2")
    assert counters(queue) == ("running", 3, 3, 0, 0, 0)
    assert queue.find_job("job-1").batch_id == "batch"


def test_a_batch_with_other_item_ids_tells_the_stored_ones(queue):
    """Item ids are no part of what makes a batch the same."""
    queue.put_batch(batch_of(*numbered(2)))
    again = [Job("work", {"n": number}, id=f"other-{number}") for number in range(2)]
    assert queue.put_batch(batch_of(*again)) == ("job-0", "job-1")
    assert queue.find_job("other-0") is None


@pytest.mark.parametrize(
    "other",
    [
        batch_of(Job("work", {"n": 9}, id="job-9")),
        batch_of(*numbered(1), allow_failures=True),
        batch_of(*numbered(1), should_batch=False),
        batch_of(*numbered(1), then=Job("then", id="then")),
        batch_of(Job("work", id="fresh"), Job("work", id="job-0"), id="second"),
        batch_of(Job("work", id="fresh"), id="second", then=Job("work", id="job-0")),
        batch_of(Job("work", id="fresh"), Job("work", id="batch"), id="second"),
        batch_of(Job("work", id="fresh"), id="job-0"),
    ],
)
def test_an_id_of_something_else_is_refused_and_nothing_is_kept(queue, other):
    """Ids of batches, jobs and callbacks share one namespace."""
    queue.put_batch(batch_of(*numbered(1)))
    with pytest.raises(IdReused):
        queue.put_batch(other)
    assert queue.find_job("fresh") is None
    assert queue.find_batch("second") is None


def test_an_id_that_is_there_twice_is_refused(queue):
    """Whoever builds a batch with one id twice is told which."""
    batch = batch_of(*numbered(2))
    with pytest.raises(IdReused) as caught:
        queue.put_batch(replace(batch, jobs=(*batch.jobs, batch.jobs[1])))
    assert caught.value.id == "job-1"
    assert queue.find_job("job-0") is None


def test_a_job_cannot_have_the_id_of_a_batch(queue, message):
    """A single job with the id of a batch is refused; others put beside it are kept."""
    queue.put_batch(batch_of(*numbered(1)))
    with pytest.raises(IdReused):
        queue.put(message(id="batch"))
    assert queue.find_job("batch") is None


def test_jobs_put_singly_are_no_batch(queue):
    """With should_batch false the jobs have no batch, and the id is taken all the same."""
    message = batch_of(*numbered(2), should_batch=False)
    assert queue.put_batch(message) is None
    assert queue.put_batch(message) == ("job-0", "job-1")
    assert queue.find_batch("batch") is None
    assert queue.find_job("job-0").batch_id is None


def test_then_and_finally_come_due_when_all_succeeded(queue, claims):
    """The last success makes then and finally due, and drops catch."""
    queue.put_batch(batch_of(*numbered(2), **CALLBACKS))
    end_next(claims, SUCCEEDED)
    assert callbacks(queue) == ("scheduled", "scheduled", "scheduled")
    end_next(claims, SUCCEEDED)
    assert callbacks(queue) == ("queued", "cancelled", "queued")
    assert counters(queue) == ("succeeded", 2, 0, 2, 0, 0)


def test_the_first_failure_makes_catch_due_and_cancels_what_waits(queue, claims):
    """Running jobs are asked to stop, and counted when they end."""
    queue.put_batch(batch_of(*numbered(4), **CALLBACKS))
    running = claims.claim(["default"])
    end_next(claims, FAILED)
    assert callbacks(queue) == ("scheduled", "queued", "scheduled")
    assert counters(queue) == ("running", 4, 1, 0, 1, 2)
    assert claims.cancel_requested(running)
    claims.end_and_claim(running, SUCCEEDED, [])
    assert callbacks(queue) == ("cancelled", "queued", "queued")
    assert counters(queue) == ("failed", 4, 0, 1, 1, 2)
    assert queue.find_batch("batch").failed_ids == ("job-1",)


def test_failures_may_be_allowed(queue, claims):
    """With allow_failures all jobs run, catch comes due at once, then at the end."""
    queue.put_batch(batch_of(*numbered(2), allow_failures=True, **CALLBACKS))
    end_next(claims, FAILED)
    assert callbacks(queue) == ("scheduled", "queued", "scheduled")
    claim = claims.claim(["default"])
    assert claim.id == "job-1"
    claims.end_and_claim(claim, FAILED, [])
    assert callbacks(queue) == ("queued", "queued", "queued")
    assert counters(queue) == ("succeeded", 2, 0, 0, 2, 0)


def test_an_empty_batch_is_finished_at_once(queue):
    """Without jobs then and finally are due at once."""
    queue.put_batch(batch_of(**CALLBACKS))
    assert callbacks(queue) == ("queued", "cancelled", "queued")
    assert counters(queue) == ("succeeded", 0, 0, 0, 0, 0)


def test_a_cancelled_batch_runs_finally_alone(queue, claims):
    """cancel_batch cancels what waits; what runs is asked, and may still succeed."""
    queue.put_batch(batch_of(*numbered(3), **CALLBACKS))
    running = claims.claim(["default"])
    assert queue.cancel_batch("batch").state == "running"
    claims.end_and_claim(running, SUCCEEDED, [])
    assert counters(queue) == ("cancelled", 3, 0, 1, 0, 2)
    assert callbacks(queue) == ("cancelled", "cancelled", "queued")
    assert queue.cancel_batch("batch").state == "cancelled"


def test_a_finished_batch_stays_as_it_is_when_cancelled(queue, claims):
    """cancel_batch after the end changes nothing."""
    queue.put_batch(batch_of(*numbered(1)))
    end_next(claims, SUCCEEDED)
    assert queue.cancel_batch("batch").state == "succeeded"
    assert queue.cancel_batch("nothing") is None


def test_a_job_that_is_cancelled_alone_counts(queue, claims):
    """Cancelling the last pending job ends the batch as cancelled."""
    queue.put_batch(batch_of(*numbered(2), **CALLBACKS))
    end_next(claims, SUCCEEDED)
    queue.cancel_job("job-1")
    assert counters(queue) == ("cancelled", 2, 0, 1, 0, 1)
    assert callbacks(queue) == ("cancelled", "cancelled", "queued")


def test_a_retried_job_is_still_pending(queue, claims):
    """A try that fails is no end: only the last one counts."""
    queue.put_batch(batch_of(*numbered(1)))
    end_next(claims, Ending.retried(JobError("exception", "E", ""), 0))
    assert counters(queue) == ("running", 1, 1, 0, 0, 0)
    end_next(claims, SUCCEEDED)
    assert counters(queue) == ("succeeded", 1, 0, 1, 0, 0)


def test_a_retry_after_the_batch_failed_is_the_last_try(queue, claims):
    """In a failed batch nothing starts again: a failing try fails its job."""
    queue.put_batch(batch_of(*numbered(2)))
    running = claims.claim(["default"])
    end_next(claims, FAILED)
    written, _ = claims.end_and_claim(
        running, Ending.retried(JobError("exception", "E", ""), 0), []
    )
    assert written.state == "failed"
    assert counters(queue) == ("failed", 2, 0, 0, 2, 0)


def test_a_callback_waits_for_its_own_delay_once_it_is_due(queue, claims):
    """The delay of a callback is counted from the moment when it comes due."""
    queue.put_batch(batch_of(*numbered(1), then=Job("then", id="then", delay=60)))
    assert queue.find_job("then").available_at is None
    end_next(claims, SUCCEEDED)
    then = queue.find_job("then")
    assert then.state == "scheduled"
    assert (then.available_at - queue.find_batch("batch").finished_at).total_seconds() == 60


def test_a_callback_that_was_cancelled_never_comes_due(queue, claims):
    """Cancelling a callback by its id keeps it from running."""
    queue.put_batch(batch_of(*numbered(1), then=Job("then", id="then")))
    queue.cancel_job("then")
    end_next(claims, SUCCEEDED)
    assert queue.find_job("then").state == "cancelled"
    assert counters(queue) == ("succeeded", 1, 0, 1, 0, 0)


def test_callbacks_are_not_counted(queue, claims):
    """A callback knows its batch, whose counters do not know it."""
    queue.put_batch(batch_of(*numbered(1), then=Job("then", id="then")))
    end_next(claims, SUCCEEDED)
    assert end_next(claims, FAILED).batch_id == "batch"
    assert counters(queue) == ("succeeded", 1, 0, 1, 0, 0)


def test_a_running_job_adds_to_its_batch_once(queue, claims, message):
    """Jobs added twice are there once; the batch waits for them."""
    queue.put_batch(batch_of(*numbered(1), then=Job("then", id="then")))
    claim = claims.claim(["default"])
    added = [message(id="added-0"), message(id="added-1")]
    claims.add_to_batch(claim, added)
    claims.add_to_batch(claim, added)
    claims.end_and_claim(claim, SUCCEEDED, [])
    assert counters(queue) == ("running", 3, 2, 1, 0, 0)
    for _ in range(2):
        end_next(claims, SUCCEEDED)
    assert counters(queue) == ("succeeded", 3, 0, 3, 0, 0)
    assert queue.find_job("then").state == "queued"


def test_a_batch_that_is_over_takes_no_more(queue, claims, message):
    """Adding is refused in a failed, cancelled or finished batch, and without a batch."""
    queue.put_batch(batch_of(*numbered(2)))
    running = claims.claim(["default"])
    end_next(claims, FAILED)
    with pytest.raises(BatchClosed, match="has failed"):
        claims.add_to_batch(running, [message(id="added")])
    queue.put(message(id="single"))
    single = claims.claim(["default"])
    with pytest.raises(BatchClosed, match="no batch"):
        claims.add_to_batch(single, [message(id="added")])
    assert queue.find_job("added") is None


def test_a_batch_is_pruned_when_it_is_old_as_a_whole(queue, claims, database):
    """Jobs of a running batch stay, however old; those of an old batch go, then the batch."""
    queue.put_batch(batch_of(*numbered(2)))
    end_next(claims, SUCCEEDED)
    assert Sweep(database, lambda: 2**52).step().removed == 0
    end_next(claims, SUCCEEDED)
    assert batch_step(database, lambda: 2**52).removed == 0
    assert Sweep(database, lambda: 2**52).step().removed == 2
    assert batch_step(database, lambda: 2**52).removed == 2
    assert queue.find_batch("batch") is None
    assert queue.put_batch(batch_of(*numbered(2))) is None
