"""What a test expects to have been sent."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from ..batch_wire import BatchMessage
from ..jobs import Job
from ..jsontext import dump, load
from ..wire import JobMessage

__all__ = ["Expected", "check_number", "described_batch", "described_job", "fit_all", "fits"]

Expected: TypeAlias = str | Callable[..., object] | Job
"""A job by its name, or its marked callable, or with its payload too."""

_MOST_NAMES = 10


def fits(message: JobMessage | None, expected: Expected) -> bool:
    """Whether the message is for the expected job; of a ``Job`` name, payload and queue count."""
    if message is None:
        return False
    if not isinstance(expected, Job):
        return message.job == Job(expected).name
    return (
        message.job == expected.name
        and message.payload == load(dump(expected.payload).encode("utf-8"))
        and expected.queue in (None, message.queue)
    )


def fit_all(messages: Sequence[JobMessage], expected: Sequence[Expected]) -> bool:
    """Whether the messages are for the expected jobs, in order."""
    return len(messages) == len(expected) and all(map(fits, messages, expected))


def check_number(found: Sequence[object], times: int | None, wanted: str, others: str) -> None:
    """Check that so many were found.

    Args:
        found: what was found.
        times: how many there must be; None for at least one.
        wanted: what was looked for, in words.
        others: what there is, in words.

    Raises:
        AssertionError: there are fewer, or more.
    """
    if len(found) if times is None else len(found) == times:
        return
    number = "at least 1" if times is None else str(times)
    raise AssertionError(f"expected {number} of {wanted}, found {len(found)}; {others}")


def described_job(job: str, payload: Mapping[str, object] | None, queue: str | None) -> str:
    """A job in words."""
    with_payload = "" if payload is None else f" with {dict(payload)!r}"
    return f"{job!r}{with_payload}{'' if queue is None else f' in {queue!r}'}"


def described_batch(batch: BatchMessage) -> str:
    """A batch in words."""
    names = ", ".join(repr(job.job) for job in batch.jobs[:_MOST_NAMES])
    more = len(batch.jobs) - _MOST_NAMES
    jobs = f"{names} and {more} more" if more > 0 else names
    return " ".join([f"[{jobs}]", *(f"{key} {job.job!r}" for key, job in batch.callbacks.items())])
