"""A job as the sender describes it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import cast

from .describing import shown
from .errors import InvalidJob
from .handlers import name_of
from .jsontext import plain_object
from .names import is_id, is_name, new_id

__all__ = ["MAX_DELAY", "MAX_PRIORITY", "Delay", "Job", "each_job", "valid_id", "valid_queue"]

MAX_DELAY = 366 * 86400
MAX_PRIORITY = 100

_NAME_RULE = "1 to 128 characters of A-Z a-z 0-9 _ . : -, not starting with . : or -"

Delay = float | timedelta | datetime | None


@dataclass(frozen=True, slots=True)
class Job:
    """One job to be run by the other application.

    Args:
        name: the name the job answers to there, or a callable marked with ``@job`` whose
            name it is.
        payload: the handler's keyword arguments, a JSON object; copied, so that it stays what
            was checked.
        queue: the queue to put it in; None means the one of the call that sends it.
        delay: seconds, a ``timedelta``, or an aware ``datetime`` (one in the past means
            now) before it may start; at most a year.
        priority: -100 to 100; higher ones start first.
        id: what identifies it, made here, so that sending it again enqueues nothing twice.

    Raises:
        InvalidJob: one of these is wrong; the message says which and how.
    """

    name: str
    payload: Mapping[str, object] = field(default_factory=dict, hash=False)
    queue: str | None = None
    delay: Delay = None
    priority: int = 0
    id: str = field(default_factory=new_id)

    def __init__(
        self,
        name: str | Callable[..., object],
        payload: Mapping[str, object] | None = None,
        queue: str | None = None,
        delay: Delay = None,
        priority: int = 0,
        id: str | None = None,
    ) -> None:
        values = {
            "name": _name(name),
            "payload": _payload(payload),
            "queue": None if queue is None else valid_queue(queue),
            "delay": _delay(delay),
            "priority": _priority(priority),
            "id": new_id() if id is None else valid_id(id),
        }
        for attribute, value in values.items():
            object.__setattr__(self, attribute, value)

    def delay_seconds(self, now: datetime) -> float:
        """Seconds from ``now`` until the job may start, at least 0.

        Raises:
            InvalidJob: it is more than a year.
        """
        if not isinstance(self.delay, datetime):
            return _seconds(self.delay)
        seconds = (self.delay - now).total_seconds()
        if seconds > MAX_DELAY:
            raise InvalidJob(f"delay={self.delay!r} is more than a year ahead")
        return max(0.0, seconds)


def each_job(jobs: Iterable[Job]) -> Iterator[Job]:
    """The jobs one by one, as they are.

    Raises:
        InvalidJob: one of them is no ``Job``, or they are nothing to go through.
    """
    if not isinstance(jobs, Iterable):
        raise InvalidJob(f"jobs must be Job objects in a list, not of type {_type(jobs)}")
    return (_a_job(job, position) for position, job in enumerate(jobs))


def valid_id(id: object) -> str:
    """The id as it is.

    Raises:
        InvalidJob: it cannot be one.
    """
    if not isinstance(id, str) or not is_id(id):
        raise InvalidJob(
            f"{shown(id)} cannot be an id: 1 to 64 characters of A-Z a-z 0-9 _ -,"
            " not starting with -"
        )
    return id


def valid_queue(queue: object) -> str:
    """The name of a queue as it is.

    Raises:
        InvalidJob: it cannot be one.
    """
    if not isinstance(queue, str) or not is_name(queue):
        raise InvalidJob(f"{shown(queue)} cannot name a queue: {_NAME_RULE}")
    return queue


def _a_job(job: object, position: int) -> Job:
    if not isinstance(job, Job):
        raise InvalidJob(f"jobs[{position}] is of type {_type(job)}: make it a Job")
    return job


def _type(value: object) -> str:
    return type(value).__name__


def _name(name: object) -> str:
    text = name_of(name) if callable(name) else name
    if not isinstance(text, str) or not is_name(text):
        raise InvalidJob(f"{shown(text)} cannot name a job: {_NAME_RULE}")
    return text


def _payload(payload: Mapping[str, object] | None) -> dict[str, object]:
    try:
        return plain_object({} if payload is None else payload, "payload")
    except ValueError as error:
        raise InvalidJob(str(error)) from None


def _seconds(delay: object) -> float:
    if delay is None:
        return 0.0
    return delay.total_seconds() if isinstance(delay, timedelta) else float(cast(float, delay))


def _delay(delay: object) -> Delay:
    if isinstance(delay, datetime):
        if delay.tzinfo is None or delay.utcoffset() is None:
            raise InvalidJob(f"delay={delay!r} has no time zone: give an aware datetime")
        return delay
    if isinstance(delay, bool) or not isinstance(delay, int | float | timedelta | None):
        raise InvalidJob(
            f"delay={shown(delay)} is neither seconds, nor a timedelta, nor a datetime"
        )
    seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay or 0
    # Compared as it is: NaN is not within, and a huge integer is no float.
    if not 0 <= seconds <= MAX_DELAY:
        raise InvalidJob(f"delay={shown(delay)} is outside of 0 seconds to a year")
    return delay


def _priority(priority: object) -> int:
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise InvalidJob(f"priority={shown(priority)} is not a whole number")
    if abs(priority) > MAX_PRIORITY:
        raise InvalidJob(
            f"priority={shown(priority)} is outside of -{MAX_PRIORITY} to {MAX_PRIORITY}"
        )
    return priority
