"""The jobs that the workers run. Each start, sign of life and end is recorded."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dispatcher_core import Cancelled, Fail, JobContext, current_job, job

from .killing import identity
from .plans import BACKOFF, BROKEN_TRIES, FLAKY_TRIES
from .records import Records

__all__ = ["EVENTS", "PlannedFailure"]

EVENTS = "SOAK_EVENTS"
_BEAT = 0.02  # seconds
_STOPPED_AT_LAST = 120.0  # seconds: the request to stop has certainly got lost


class PlannedFailure(Exception):
    """What the jobs raise that are meant to fail."""


@contextmanager
def lifespan() -> Iterator[Records]:
    """A file of records of this process's own."""
    records = Records(Path(os.environ[EVENTS]) / f"{identity(os.getpid())}.jsonl")
    yield records
    records.close()


@contextmanager
def around_job(context: JobContext) -> Iterator[None]:
    """Record the start and the end of each run."""
    _record(context, "start")
    try:
        yield
    finally:
        _record(context, "end")


def _record(context: JobContext, event: str) -> None:
    records = context.resources
    assert isinstance(records, Records)
    records.write(event=event, id=context.id, attempt=context.attempt, at=time.monotonic_ns())


def _beats(seconds: float) -> Iterator[JobContext]:
    """Record signs of life for so long."""
    context = current_job()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        _record(context, "beat")
        yield context
        time.sleep(_BEAT)


@job("square")
def square(number: int) -> int:
    return number * number


@job("take-long")
def take_long(seconds: float) -> float:
    for _ in _beats(seconds):
        pass
    return seconds


@job("stop-when-asked")
def stop_when_asked() -> None:
    for context in _beats(_STOPPED_AT_LAST):
        if context.cancel_requested:
            raise Cancelled


@job("fail-at-first", tries=FLAKY_TRIES, backoff=BACKOFF)
def fail_at_first(failures: int) -> int:
    attempt = current_job().attempt
    if attempt <= failures:
        raise PlannedFailure(f"failure {attempt} of {failures}")
    return failures


@job("fail-always", tries=BROKEN_TRIES, backoff=BACKOFF)
def fail_always(number: int) -> None:
    raise PlannedFailure(f"number {number}")


@job("fail-for-good", tries=3)
def fail_for_good(number: int) -> None:
    raise Fail(f"number {number}")
