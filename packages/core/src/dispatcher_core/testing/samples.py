"""Jobs and batches as a receiver hands them to a queue."""

from collections.abc import Sequence
from datetime import UTC, datetime

from ..batch_wire import BatchMessage, decode_batch, encode_batch
from ..jobs import Job
from ..names import new_id
from ..wire import JobMessage, decode_dispatch, encode_dispatch

__all__ = ["QUEUE", "batch_message", "job_message", "sample_job"]

QUEUE = "conformance.queue"
_TRACE = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}


def sample_job(
    number: int = 7, *, id: str | None = None, delay: float = 0.0, priority: int = 0
) -> Job:
    """A job with a fresh id; those with different numbers are different jobs."""
    payload = {"number": number, "text": "ä\u2028\0"}
    return Job("conformance", payload, delay=delay, priority=priority, id=id)


def job_message(job: Job) -> JobMessage:
    """The job as it is decoded when it was sent singly."""
    body = encode_dispatch(job, QUEUE, datetime.now(UTC), _TRACE)
    return decode_dispatch(job.id, body)


def batch_message(
    jobs: Sequence[Job],
    *,
    id: str | None = None,
    should_batch: bool = True,
    allow_failures: bool = False,
    then: Job | None = None,
    catch: Job | None = None,
    finally_: Job | None = None,
) -> BatchMessage:
    """The batch as it is decoded when it was sent; its id is fresh unless it is given."""
    body = encode_batch(
        jobs,
        QUEUE,
        datetime.now(UTC),
        should_batch=should_batch,
        allow_failures=allow_failures,
        then=then,
        catch=catch,
        finally_=finally_,
    )
    return decode_batch(new_id() if id is None else id, body)
