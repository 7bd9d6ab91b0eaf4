import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from dispatcher_core import IdReused, Job, QueueFull
from dispatcher_core.batch_wire import decode_batch, encode_batch
from dispatcher_core.testing import MemoryQueue, check_queue
from dispatcher_core.wire import decode_dispatch


def message(id="job_1", **members):
    """A job as a receiver decodes it."""
    body = {"type": "dispatch", "job": "greet", **members}
    return decode_dispatch(id, json.dumps(body).encode())


def test_the_memory_queue_conforms():
    """The queue in memory passes the suite that every queue passes."""
    check_queue(MemoryQueue)


def test_a_memory_queue_is_made_from_a_url():
    """Each is its own."""
    first, second = MemoryQueue.from_url("memory:"), MemoryQueue.from_url("memory:")
    first.put(message())
    assert first.find_job("job_1") is not None
    assert second.find_job("job_1") is None


def test_a_full_memory_queue_refuses():
    """Jobs that wait count, finished ones do not; a known job is never refused."""
    queue = MemoryQueue(max_jobs=2)
    assert queue.put(message("a"))
    assert queue.put(message("b", delay=60))
    with pytest.raises(QueueFull):
        queue.put(message("c"))
    assert queue.put(message("a")) is False
    queue.cancel_job("a")
    assert queue.put(message("c"))


def test_a_memory_queue_reads_the_time():
    """A delay is counted from the moment of the put, in milliseconds."""
    now = datetime(2024, 5, 6, 7, 8, 9, 123_456, tzinfo=UTC)
    queue = MemoryQueue(now=lambda: now)
    queue.put(message(delay=1.5))
    status = queue.find_job("job_1")
    assert status.created_at == now.replace(microsecond=123_000)
    assert status.available_at - status.created_at == timedelta(seconds=1.5)


def batch_of(*jobs, id="batch", **options):
    """A batch as a receiver decodes it."""
    return decode_batch(id, encode_batch(jobs, "default", datetime.now(UTC), **options))


def jobs_of(number):
    """So many jobs of one batch."""
    return [Job("a", {"n": each}, id=f"job-{each}") for each in range(number)]


def callbacks_of():
    """One callback of each kind."""
    return {
        "then": Job("t", id="then"),
        "catch": Job("c", id="catch"),
        "finally_": Job("f", id="finally"),
    }


@pytest.fixture
def full_batch():
    """A queue with a batch of three jobs and all callbacks."""
    queue = MemoryQueue()
    queue.put_batch(batch_of(*jobs_of(3), **callbacks_of()))
    return queue


def end(queue, id, state):
    """Let a job come to an end, as a worker would."""
    queue.set_status(replace(queue.find_job(id), state=state))


def told(queue):
    """State, pending, succeeded, failed and cancelled of the batch, and its callbacks' states."""
    status = queue.find_batch("batch")
    counts = (status.pending, status.succeeded, status.failed, status.cancelled)
    callbacks = [queue.find_job(each).state for each in ("then", "catch", "finally")]
    return status.state, counts, callbacks


def test_a_batch_in_memory_succeeds(full_batch):
    """When all succeeded, then and finally are due, and catch never is."""
    for number in range(3):
        assert told(full_batch)[0] == "running"
        assert told(full_batch)[2] == ["scheduled"] * 3
        end(full_batch, f"job-{number}", "succeeded")
    assert told(full_batch) == ("succeeded", (0, 3, 0, 0), ["queued", "cancelled", "queued"])


def test_a_batch_in_memory_fails(full_batch):
    """The first failure makes catch due and cancels what waits; what runs is asked to stop."""
    full_batch.set_status(replace(full_batch.find_job("job-0"), state="running"))
    end(full_batch, "job-1", "failed")
    assert told(full_batch) == ("running", (1, 0, 1, 1), ["scheduled", "queued", "scheduled"])
    assert full_batch.find_job("job-0").cancel_requested
    end(full_batch, "job-0", "succeeded")
    assert told(full_batch) == ("failed", (0, 1, 1, 1), ["cancelled", "queued", "queued"])
    assert full_batch.find_batch("batch").failed_ids == ("job-1",)


def test_a_batch_in_memory_may_allow_failures():
    """With ``allow_failures`` all jobs go on, and at the end then is due as well as catch."""
    queue = MemoryQueue()
    queue.put_batch(batch_of(*jobs_of(2), allow_failures=True, **callbacks_of()))
    end(queue, "job-0", "failed")
    assert told(queue) == ("running", (1, 0, 1, 0), ["scheduled", "queued", "scheduled"])
    end(queue, "job-1", "failed")
    assert told(queue) == ("succeeded", (0, 0, 2, 0), ["queued", "queued", "queued"])


def test_a_callback_that_was_cancelled_stays_so(full_batch):
    """Who cancels a callback keeps it from coming due."""
    full_batch.cancel_job("then")
    for number in range(3):
        end(full_batch, f"job-{number}", "succeeded")
    assert told(full_batch)[2] == ["cancelled", "cancelled", "queued"]


def test_a_finished_batch_stays_as_it_is(full_batch):
    """What becomes of a job after the batch's end changes nothing there."""
    for number in range(3):
        end(full_batch, f"job-{number}", "succeeded")
    before = full_batch.find_batch("batch")
    end(full_batch, "job-0", "failed")
    assert full_batch.find_batch("batch") == before


def test_a_full_memory_queue_refuses_a_batch_whole():
    """The jobs of a batch need room together, callbacks none; a known batch is never refused."""
    queue = MemoryQueue(max_jobs=3)
    queue.put(message("a"))
    with pytest.raises(QueueFull):
        queue.put_batch(batch_of(*jobs_of(3)))
    assert queue.find_job("job-0") is None
    assert queue.put_batch(batch_of(*jobs_of(2), then=Job("t", id="then"))) is None
    again = batch_of(*jobs_of(2), then=Job("t", id="then"))
    assert queue.put_batch(again) == ("job-0", "job-1")


def test_a_memory_queue_lists_what_was_put(full_batch):
    """Jobs are listed whichever way they came, callbacks with their batch."""
    full_batch.put(message("single"))
    assert [job.id for job in full_batch.jobs] == ["job-0", "job-1", "job-2", "single"]
    assert [batch.id for batch in full_batch.batches] == ["batch"]


class Forgetful(MemoryQueue):
    """Accepts an id twice."""

    def put(self, job):
        """Keep it, whether it is known or not."""
        if self.find_job(job.id) is not None:
            return True
        return super().put(job)


class Confused(MemoryQueue):
    """Takes another job for the same."""

    def put(self, job):
        """Never say that an id is used."""
        try:
            return super().put(job)
        except IdReused:
            return False


class Impatient(MemoryQueue):
    """Ignores delays."""

    def put(self, job):
        """Put it without its delay."""
        return super().put(replace(job, delay=0.0))


class Exact(MemoryQueue):
    """Tells times that do not survive being sent."""

    def find_job(self, id):
        """Add some microseconds."""
        status = super().find_job(id)
        at = None if status is None else status.created_at.replace(microsecond=1)
        return None if status is None else replace(status, created_at=at)


class Stubborn(MemoryQueue):
    """Does not cancel."""

    def cancel_job(self, id):
        """Leave it as it is."""
        return self.find_job(id)


class ForgetfulOfBatches(MemoryQueue):
    """Takes every batch for new."""

    def put_batch(self, batch):
        """Say that it is new."""
        super().put_batch(batch)


class RepeatingIds(MemoryQueue):
    """Tells the ids that were sent instead of those that it has."""

    def put_batch(self, batch):
        """Tell the ids of the batch at hand."""
        return None if super().put_batch(batch) is None else batch.ids


class PartlyKeeping(MemoryQueue):
    """Keeps jobs of a batch that it refuses."""

    def put_batch(self, batch):
        """Keep the first job, then look at the batch."""
        try:
            return super().put_batch(batch)
        except IdReused:
            self.set_status(new_status(batch.jobs[0]))
            raise


class Lenient(MemoryQueue):
    """Takes another batch for the same."""

    def put_batch(self, batch):
        """Never say that an id is used."""
        try:
            return super().put_batch(batch)
        except IdReused:
            return batch.ids


class Hasty(MemoryQueue):
    """Lets callbacks start at once."""

    def put_batch(self, batch):
        """Put the callbacks as jobs of their own."""
        known = super().put_batch(batch)
        for callback in batch.callbacks.values():
            self.set_status(replace(new_status(callback), batch_id=batch.id))
        return known


class NeverEmpty(MemoryQueue):
    """Waits for jobs where there are none."""

    def find_batch(self, id):
        """Call an empty batch running."""
        status = super().find_batch(id)
        if status is None or status.total:
            return status
        return replace(status, state="running")


class AlwaysBatching(MemoryQueue):
    """Makes a batch of what is none."""

    def put_batch(self, batch):
        """Ignore ``should_batch``."""
        return super().put_batch(replace(batch, should_batch=True))


class StubbornWithBatches(MemoryQueue):
    """Does not cancel batches."""

    def cancel_batch(self, id):
        """Leave it as it is."""
        return self.find_batch(id)


class Uncounted(MemoryQueue):
    """Does not count the jobs that are cancelled alone."""

    def cancel_job(self, id):
        """Cancel it behind the batch's back."""
        batches = {batch.id: self.find_batch(batch.id) for batch in self.batches}
        status = super().cancel_job(id)
        for before in batches.values():
            if before is not None:
                self.set_batch_status(before)
        return status


class CountingCallbacks(MemoryQueue):
    """Counts callbacks that are not due among the jobs that wait."""

    def waiting(self, limit):
        """Count them all."""
        not_due = [
            each
            for batch in self.batches
            for callback in batch.callbacks.values()
            if (each := self.find_job(callback.id)).state == "scheduled" and not each.available_at
        ]
        return min(limit, super().waiting(limit) + len(not_due))


class CountingAll(MemoryQueue):
    """Counts on behind the limit."""

    def waiting(self, limit):
        """Count them all."""
        return super().waiting(10**9)


def new_status(job):
    """The status of a job that was put."""
    queue = MemoryQueue()
    queue.put(job)
    return queue.find_job(job.id)


@pytest.mark.parametrize(
    "queue",
    [
        *(Forgetful, Confused, Impatient, Exact, Stubborn, ForgetfulOfBatches, RepeatingIds),
        *(PartlyKeeping, Lenient, Hasty, NeverEmpty, AlwaysBatching, StubbornWithBatches),
        *(Uncounted, CountingCallbacks, CountingAll),
    ],
)
def test_the_suite_finds_a_wrong_queue(queue):
    """A queue that breaks one of the rules does not pass."""
    with pytest.raises(AssertionError):
        check_queue(queue)
