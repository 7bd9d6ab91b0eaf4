"""What every queue must do."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, timedelta

from ..errors import IdReused
from ..names import new_id
from ..protocols import Queue
from ..wire import JobMessage, decode_status, encode_status
from .batch_conformance import BATCH_CHECKS
from .samples import batch_message, job_message, sample_job
from .threads import THREADS, in_threads

__all__ = ["check_queue"]

_MANY = 10**9


def check_queue(factory: Callable[[], Queue]) -> None:
    """Check that a queue does what a receiver relies on.

    Args:
        factory: makes the queue; it is called once, and no worker may take jobs from it.
            Whoever calls closes the queue.

    Raises:
        AssertionError: it does not; the message says what.
    """
    queue = factory()
    for check in (
        _keeps_a_job,
        _schedules_a_delayed_job,
        _takes_a_job_once,
        _refuses_an_id_for_another_job,
        _knows_no_other_id,
        _cancels_a_waiting_job,
        _takes_a_job_once_from_many_threads,
        _keeps_the_jobs_of_many_threads,
        _counts_workers,
        _counts_waiting_jobs,
        *BATCH_CHECKS,
    ):
        check(queue)


def _job(*, delay: float = 0.0, priority: int = 0, number: int = 7) -> JobMessage:
    return job_message(sample_job(number, delay=delay, priority=priority))


def _keeps_a_job(queue: Queue) -> None:
    job = _job()
    assert queue.put(job) is True, "put() of a new job must return True"
    status = queue.find_job(job.id)
    assert status is not None, "find_job() must find a job once put() has returned"
    assert (status.id, status.job, status.queue) == (job.id, job.job, job.queue), status
    assert (status.state, status.attempt) == ("queued", 0), status
    assert (status.progress, status.result, status.error) == (None, None, None), status
    assert (status.started_at, status.finished_at) == (None, None), status
    assert not status.cancel_requested, status
    assert status.created_at.tzinfo is UTC, "times must be aware, in UTC"
    told = decode_status(encode_status(status))
    assert told == status, "times must be exact to the millisecond, as they are sent"


def _schedules_a_delayed_job(queue: Queue) -> None:
    job = _job(delay=3600.5, priority=-100)
    queue.put(job)
    status = queue.find_job(job.id)
    assert status is not None and status.state == "scheduled", status
    assert status.available_at is not None, "a delayed job must tell when it may start"
    waits = status.available_at - status.created_at
    off = abs(waits - timedelta(seconds=3600.5))
    assert off < timedelta(seconds=1), f"a job delayed by 3600.5 s waits {waits}"


def _takes_a_job_once(queue: Queue) -> None:
    job = _job()
    queue.put(job)
    before = queue.find_job(job.id)
    again = replace(job, delay=60.0, priority=5, trace=None)
    assert queue.put(again) is False, "put() of a known job must return False"
    assert queue.find_job(job.id) == before, "put() of a known job must change nothing"


def _refuses_an_id_for_another_job(queue: Queue) -> None:
    job = _job()
    queue.put(job)
    other = replace(_job(number=8), id=job.id)
    try:
        queue.put(other)
    except IdReused as error:
        assert error.id == job.id, "IdReused must carry the id"
    else:
        raise AssertionError("put() with a known id and another fingerprint must raise IdReused")


def _knows_no_other_id(queue: Queue) -> None:
    assert queue.find_job(new_id()) is None, "find_job() of an unknown id must be None"
    assert queue.cancel_job(new_id()) is None, "cancel_job() of an unknown id must be None"
    assert queue.is_taken(new_id()) is False, "is_taken() of an unknown id must be False"


def _cancels_a_waiting_job(queue: Queue) -> None:
    for job in (_job(), _job(delay=3600)):
        queue.put(job)
        status = queue.cancel_job(job.id)
        assert status is not None and status.state == "cancelled", status
        assert status.finished_at is not None, "a cancelled job must tell when it ended"
        assert queue.find_job(job.id) == status, "find_job() must see what cancel_job() did"
        assert queue.cancel_job(job.id) == status, "cancelling a finished job changes nothing"
        assert queue.put(job) is False, "a cancelled job stays known"


def _takes_a_job_once_from_many_threads(queue: Queue) -> None:
    job = _job()
    taken = in_threads(lambda number: queue.put(job))
    assert sorted(taken) == [False] * (THREADS - 1) + [True], "one put() of many must win"


def _keeps_the_jobs_of_many_threads(queue: Queue) -> None:
    jobs = [_job(number=number) for number in range(THREADS)]
    taken = in_threads(lambda number: queue.put(jobs[number]))
    assert taken == [True] * THREADS, "put() must return True for each of several new jobs"
    for job in jobs:
        assert queue.find_job(job.id) is not None, "each of several jobs must be kept"


def _counts_workers(queue: Queue) -> None:
    workers = queue.workers()
    assert workers is None or workers >= 0, "workers() must be a number, or None"


def _counts_waiting_jobs(queue: Queue) -> None:
    before = queue.waiting(_MANY)
    soon, later = _job(), _job(delay=3600)
    queue.put(soon)
    queue.put(later)
    assert queue.waiting(_MANY) == before + 2, "waiting() must count queued and scheduled jobs"
    queue.put_batch(batch_message([sample_job(1), sample_job(2)], then=sample_job(3)))
    assert queue.waiting(_MANY) == before + 4, "waiting() must count no callback that is not due"
    queue.put_batch(batch_message([], then=sample_job(3), finally_=sample_job(4, delay=3600)))
    assert queue.waiting(_MANY) == before + 6, "waiting() must count callbacks that are due"
    queue.cancel_job(soon.id)
    assert queue.waiting(_MANY) == before + 5, "waiting() must count no job that is finished"
    for limit in (0, 1, before + 4):
        assert queue.waiting(limit) == limit, "waiting() must count no further than its limit"
