"""What every queue must do with batches."""

from collections.abc import Callable
from datetime import UTC, timedelta

from ..batch_wire import BatchMessage, decode_batch_status, encode_batch_status
from ..errors import IdReused
from ..names import new_id
from ..protocols import Queue
from ..status import BatchStatus, JobStatus
from .samples import QUEUE, batch_message, job_message, sample_job
from .threads import THREADS, in_threads

__all__ = ["BATCH_CHECKS"]


def _keeps_a_batch(queue: Queue) -> None:
    batch = _with_callbacks(3)
    assert queue.put_batch(batch) is None, "put_batch() of a new batch must return None"
    status = _batch(queue, batch.id)
    assert (status.id, status.state, status.finished_at) == (batch.id, "running", None), status
    assert _counts(status) == (3, 3, 0, 0, 0), status
    assert status.failed_ids == (), status
    told = (status.then_id, status.catch_id, status.finally_id)
    assert told == tuple(job.id for job in batch.callbacks.values()), status
    assert status.created_at.tzinfo is UTC, "times must be aware, in UTC"
    told_status = decode_batch_status(encode_batch_status(status))
    assert told_status == status, "times must be exact to the millisecond, as they are sent"


def _keeps_the_jobs_of_a_batch(queue: Queue) -> None:
    jobs = [sample_job(1), sample_job(2, delay=3600)]
    batch = batch_message(jobs)
    queue.put_batch(batch)
    statuses = [_job(queue, job.id) for job in jobs]
    assert [status.state for status in statuses] == ["queued", "scheduled"], statuses
    for status in statuses:
        assert (status.queue, status.batch_id) == (QUEUE, batch.id), status


def _keeps_callbacks_until_they_are_due(queue: Queue) -> None:
    batch = _with_callbacks(1)
    queue.put_batch(batch)
    for job in batch.callbacks.values():
        status = _job(queue, job.id)
        assert (status.state, status.available_at) == ("scheduled", None), status
        assert status.batch_id == batch.id, "a callback must know its batch"


def _takes_a_batch_once(queue: Queue) -> None:
    first = [sample_job(1), sample_job(2)]
    second = [sample_job(1, delay=60), sample_job(2, priority=5)]
    batch = batch_message(first)
    queue.put_batch(batch)
    before = queue.find_batch(batch.id)
    known = queue.put_batch(batch_message(second, id=batch.id))
    assert known == batch.ids, "put_batch() of a known batch must return the ids that it has"
    assert queue.find_batch(batch.id) == before, "put_batch() of a known batch changes nothing"
    assert queue.find_job(second[0].id) is None, "put_batch() of a known batch must keep no job"


def _refuses_an_id_for_another_batch(queue: Queue) -> None:
    batch = batch_message([sample_job(1)])
    queue.put_batch(batch)
    for other in (
        batch_message([sample_job(2)], id=batch.id),
        batch_message([sample_job(1), sample_job(1)], id=batch.id),
        batch_message([sample_job(1)], id=batch.id, allow_failures=True),
        batch_message([sample_job(1)], id=batch.id, should_batch=False),
        batch_message([sample_job(1)], id=batch.id, finally_=sample_job()),
    ):
        _check_refused(queue, other, batch.id)
    assert _counts(_batch(queue, batch.id)) == (1, 1, 0, 0, 0), "a refused batch changes nothing"


def _has_one_namespace_for_ids(queue: Queue) -> None:
    single = job_message(sample_job(1))
    queue.put(single)
    batch = batch_message([sample_job(2)], then=sample_job(3))
    queue.put_batch(batch)
    in_use = [single.id, batch.id, *batch.ids, *(job.id for job in batch.callbacks.values())]
    for taken in in_use:
        fresh, reused = sample_job(4), sample_job(5, id=taken)
        _check_refused(queue, batch_message([fresh, reused]), taken)
        _check_refused(queue, batch_message([fresh], catch=reused), taken)
        _check_refused(queue, batch_message([fresh, reused], should_batch=False), taken)
        _check_refused(queue, batch_message([fresh], id=taken), taken)
        assert queue.find_job(fresh.id) is None, "of a refused batch nothing must be kept"
        try:
            queue.put(job_message(reused))
        except IdReused as error:
            assert error.id == taken, "IdReused must carry the id"
        else:
            raise AssertionError("put() must refuse an id that a batch has taken")


def _finishes_an_empty_batch(queue: Queue) -> None:
    delayed = sample_job(delay=3600)
    batch = batch_message([], then=sample_job(), catch=sample_job(), finally_=delayed)
    queue.put_batch(batch)
    status = _batch(queue, batch.id)
    assert status.state == "succeeded", f"a batch without jobs is succeeded at once: {status}"
    assert status.finished_at is not None, status
    assert _counts(status) == (0, 0, 0, 0, 0), status
    assert _callback_states(queue, batch) == ["queued", "cancelled", "scheduled"], status
    waits = _job(queue, delayed.id)
    assert waits.available_at is not None, "the delay of a callback begins when it is due"
    assert waits.available_at - waits.created_at > timedelta(seconds=3590), waits
    assert queue.put_batch(batch) == (), "an empty batch is known by no ids, but known"


def _keeps_jobs_singly(queue: Queue) -> None:
    batch = batch_message([sample_job(1), sample_job(2)], should_batch=False)
    assert queue.put_batch(batch) is None, "put_batch() of new jobs must return None"
    assert queue.find_batch(batch.id) is None, "jobs that are kept singly are no batch"
    assert queue.cancel_batch(batch.id) is None, "jobs that are kept singly are no batch"
    for each in batch.ids:
        assert (_job(queue, each).state, _job(queue, each).batch_id) == ("queued", None)
    assert queue.put_batch(batch) == batch.ids, "the id of jobs kept singly is taken all the same"
    _check_refused(queue, batch_message([sample_job(3)], id=batch.id), batch.id)


def _cancels_a_batch(queue: Queue) -> None:
    batch = _with_callbacks(3)
    queue.put_batch(batch)
    status = queue.cancel_batch(batch.id)
    assert status is not None and status.state == "cancelled", status
    assert _counts(status) == (3, 0, 0, 0, 3), status
    assert status.finished_at is not None, "a cancelled batch must tell when it ended"
    assert queue.find_batch(batch.id) == status, "find_batch() must see what cancel_batch() did"
    assert {_job(queue, each).state for each in batch.ids} == {"cancelled"}, "all are cancelled"
    states = _callback_states(queue, batch)
    assert states == ["cancelled", "cancelled", "queued"], "of a cancelled batch, finally runs"
    assert queue.cancel_batch(batch.id) == status, "cancelling a finished batch changes nothing"
    assert queue.put_batch(batch) == batch.ids, "a cancelled batch stays known"


def _counts_a_cancelled_job(queue: Queue) -> None:
    batch = _with_callbacks(2)
    first, last = batch.ids
    queue.put_batch(batch)
    queue.cancel_job(first)
    assert _counts(_batch(queue, batch.id)) == (2, 1, 0, 0, 1), "cancel_job() counts in the batch"
    queue.cancel_job(first)
    assert _counts(_batch(queue, batch.id)) == (2, 1, 0, 0, 1), "a job counts once"
    queue.cancel_job(last)
    status = _batch(queue, batch.id)
    assert (status.state, _counts(status)) == ("cancelled", (2, 0, 0, 0, 2)), status
    assert _callback_states(queue, batch) == ["cancelled", "cancelled", "queued"], status


def _lets_a_batch_be_cancelled_whatever_it_allows(queue: Queue) -> None:
    batch = batch_message([sample_job(1)], allow_failures=True, then=sample_job(2))
    queue.put_batch(batch)
    status = queue.cancel_batch(batch.id)
    assert status is not None and status.state == "cancelled", status
    assert _callback_states(queue, batch) == ["cancelled"], "then is for batches that succeed"


def _knows_no_other_batch(queue: Queue) -> None:
    job = job_message(sample_job())
    queue.put(job)
    for each in (new_id(), job.id):
        assert queue.find_batch(each) is None, "find_batch() of what is no batch must be None"
        assert queue.cancel_batch(each) is None, "cancel_batch() of what is no batch must be None"
    batch = batch_message([sample_job()])
    queue.put_batch(batch)
    assert queue.find_job(batch.id) is None, "a batch is no job"


def _takes_a_batch_once_from_many_threads(queue: Queue) -> None:
    batch = _with_callbacks(5)
    taken = in_threads(lambda number: queue.put_batch(batch))
    assert taken.count(None) == 1, "one put_batch() of many must win"
    assert taken.count(batch.ids) == THREADS - 1, "the others must get the ids that are kept"
    assert _counts(_batch(queue, batch.id)) == (5, 5, 0, 0, 0)


BATCH_CHECKS: tuple[Callable[[Queue], None], ...] = (
    _keeps_a_batch,
    _keeps_the_jobs_of_a_batch,
    _keeps_callbacks_until_they_are_due,
    _takes_a_batch_once,
    _refuses_an_id_for_another_batch,
    _has_one_namespace_for_ids,
    _finishes_an_empty_batch,
    _keeps_jobs_singly,
    _cancels_a_batch,
    _counts_a_cancelled_job,
    _lets_a_batch_be_cancelled_whatever_it_allows,
    _knows_no_other_batch,
    _takes_a_batch_once_from_many_threads,
)
"""Each raises AssertionError where a queue breaks a rule."""


def _with_callbacks(count: int) -> BatchMessage:
    return batch_message(
        [sample_job(number) for number in range(count)],
        then=sample_job(100),
        catch=sample_job(101),
        finally_=sample_job(102),
    )


def _batch(queue: Queue, id: str) -> BatchStatus:
    status = queue.find_batch(id)
    assert status is not None, "find_batch() must find a batch once put_batch() has returned"
    return status


def _job(queue: Queue, id: str) -> JobStatus:
    status = queue.find_job(id)
    assert status is not None, "find_job() must find the jobs and callbacks of a batch"
    return status


def _counts(status: BatchStatus) -> tuple[int, ...]:
    ended = (status.succeeded, status.failed, status.cancelled)
    return (status.total, status.pending, *ended)


def _callback_states(queue: Queue, batch: BatchMessage) -> list[str]:
    return [_job(queue, job.id).state for job in batch.callbacks.values()]


def _check_refused(queue: Queue, batch: BatchMessage, taken: str) -> None:
    try:
        queue.put_batch(batch)
    except IdReused as error:
        assert error.id == taken, f"IdReused must carry the id {taken}, not {error.id}"
    else:
        raise AssertionError("put_batch() with an id of something else must raise IdReused")
