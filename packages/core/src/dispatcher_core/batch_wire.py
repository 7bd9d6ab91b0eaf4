"""The wire format of batches, version 1: requests and answers as bytes, and back."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from .errors import RequestError
from .fields import (
    read_delay,
    read_flag,
    read_id,
    read_members,
    read_name,
    read_object,
    read_payload,
    read_priority,
    read_trace,
)
from .jobs import Job
from .jsontext import dump
from .status import BATCH_STATES, BatchState, BatchStatus
from .wire import JobMessage, fingerprint, format_time, parse_time

__all__ = [
    "MAX_BATCH_BODY",
    "MAX_BATCH_JOBS",
    "BatchMessage",
    "decode_batch",
    "decode_batch_status",
    "encode_batch",
    "encode_batch_status",
    "encode_items",
    "with_items",
]

MAX_BATCH_BODY = 16 * 1024 * 1024
MAX_BATCH_JOBS = 10_000

_CALLBACKS = ("then", "catch", "finally")
_MEMBERS = frozenset(
    ("type", "should_batch", "queue", "allow_failures", *_CALLBACKS, "jobs", "trace")
)
_ITEM_MEMBERS = frozenset(("id", "job", "payload", "queue", "delay", "priority"))
_END = b"]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchMessage:
    """A batch as it came over the wire, its defaults filled in.

    Attributes:
        id: the batch's id, or that of a set of jobs that are no batch.
        jobs: the jobs, in order.
        should_batch: whether they are a batch; else they are queued singly.
        allow_failures: whether the batch goes on, and succeeds, when jobs fail.
        then: the job to run when all succeeded (or ended, with ``allow_failures``).
        catch: the job to run at the first final failure.
        finally_: the job to run when nothing is pending any more.
    """

    id: str
    jobs: tuple[JobMessage, ...]
    should_batch: bool
    allow_failures: bool
    then: JobMessage | None
    catch: JobMessage | None
    finally_: JobMessage | None

    @property
    def fingerprint(self) -> bytes:
        """What tells whether two messages with one id mean the same batch."""
        callbacks = map(_triple, (self.then, self.catch, self.finally_))
        items = list(map(_triple, self.jobs))
        return fingerprint(["batch", self.should_batch, self.allow_failures, *callbacks, items])

    @property
    def ids(self) -> tuple[str, ...]:
        """The jobs' ids, in order."""
        return tuple(job.id for job in self.jobs)

    @property
    def callbacks(self) -> dict[str, JobMessage]:
        """The callbacks that it has, by ``then``, ``catch`` and ``finally``."""
        given = zip(_CALLBACKS, (self.then, self.catch, self.finally_), strict=True)
        return {name: job for name, job in given if job is not None}


def encode_batch(
    jobs: Sequence[Job],
    queue: str,
    now: datetime,
    *,
    should_batch: bool = True,
    allow_failures: bool = False,
    then: Job | None = None,
    catch: Job | None = None,
    finally_: Job | None = None,
) -> bytes:
    """The body that dispatches the batch.

    Args:
        jobs: the jobs, in order.
        queue: the queue for jobs and callbacks that name none.
        now: the time against which a ``datetime`` as delay is counted.
        should_batch: whether they are a batch; else they are queued singly.
        allow_failures: whether the batch goes on, and succeeds, when jobs fail.
        then: the job to run when all succeeded (or ended, with ``allow_failures``).
        catch: the job to run at the first final failure.
        finally_: the job to run when nothing is pending any more.
    """
    message = {
        "type": "dispatch.batch",
        "should_batch": should_batch,
        "queue": queue,
        "allow_failures": allow_failures,
        "then": then and _item(then, now),
        "catch": catch and _item(catch, now),
        "finally": finally_ and _item(finally_, now),
        "trace": None,
        "jobs": [_item(job, now) for job in jobs],  # last, where with_items() adds them
    }
    return dump(message).encode("utf-8")


def encode_items(jobs: Sequence[Job], now: datetime) -> bytes:
    """Jobs as they stand in the body of a batch, with commas between them.

    Args:
        jobs: the jobs, in order.
        now: the time against which a ``datetime`` as delay is counted.
    """
    return dump([_item(job, now) for job in jobs])[1:-1].encode("utf-8")


def with_items(body: bytes, items: Iterable[bytes]) -> bytes:
    """The body of a batch without jobs, as :func:`encode_batch` makes it, with these in it.

    Args:
        body: the body.
        items: what :func:`encode_items` made.
    """
    parts = [part for item in items for part in (b",", item)]
    return b"".join((body.removesuffix(_END), *parts[1:], _END))


def decode_batch(id: str, body: bytes) -> BatchMessage:
    """The batch in the body of a dispatch.

    Args:
        id: the batch's id, from the ``webhook-id`` header.
        body: the raw body.

    Raises:
        RequestError: ``malformed`` for what is no JSON within the limits, ``too-large`` for
            more jobs than :data:`MAX_BATCH_JOBS`, else ``invalid-request`` with the member
            that is wrong.
    """
    members = read_object(body, "dispatch.batch", _MEMBERS)
    queue = read_name(members.get("queue", "default"), "queue")
    trace = read_trace(members.get("trace"))
    should_batch = read_flag(members.get("should_batch", True), "should_batch")
    allow_failures = read_flag(members.get("allow_failures", False), "allow_failures")
    jobs = _read_items(members.get("jobs"), queue, trace)
    given = [_read_callback(members.get(name), name, queue, trace) for name in _CALLBACKS]
    callbacks = [job for job in given if job is not None]
    if callbacks and not should_batch:
        raise RequestError("only a batch has callbacks", "invalid-request")
    _check_distinct([id, *(job.id for job in (*jobs, *callbacks))])
    then, catch, finally_ = given
    return BatchMessage(
        id=id,
        jobs=tuple(jobs),
        should_batch=should_batch,
        allow_failures=allow_failures,
        then=then,
        catch=catch,
        finally_=finally_,
    )


def encode_batch_status(status: BatchStatus) -> dict[str, object]:
    """The members that answer a question for a batch's status."""
    return {
        "id": status.id,
        "state": status.state,
        "total": status.total,
        "pending": status.pending,
        "succeeded": status.succeeded,
        "failed": status.failed,
        "cancelled": status.cancelled,
        "progress": {"done": status.progress.done, "total": status.progress.total},
        "failed_ids": list(status.failed_ids),
        "then_id": status.then_id,
        "catch_id": status.catch_id,
        "finally_id": status.finally_id,
        "created_at": format_time(status.created_at),
        "finished_at": format_time(status.finished_at),
    }


def decode_batch_status(answer: Mapping[str, object]) -> BatchStatus:
    """The status in a backend's answer; members unknown here are ignored.

    Raises:
        ValueError: it is none.
    """
    try:
        state, created_at = answer["state"], parse_time(answer["created_at"])
        if state not in BATCH_STATES or created_at is None:
            raise ValueError(f"unknown state {state!r}")
        return BatchStatus(
            id=str(answer["id"]),
            state=cast(BatchState, state),
            total=_count(answer["total"]),
            pending=_count(answer["pending"]),
            succeeded=_count(answer["succeeded"]),
            failed=_count(answer["failed"]),
            cancelled=_count(answer["cancelled"]),
            failed_ids=_texts(answer["failed_ids"]),
            then_id=_optional_text(answer.get("then_id")),
            catch_id=_optional_text(answer.get("catch_id")),
            finally_id=_optional_text(answer.get("finally_id")),
            created_at=created_at,
            finished_at=parse_time(answer.get("finished_at")),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not the status of a batch: {error!r}") from None


def _item(job: Job, now: datetime) -> dict[str, object]:
    return {
        "id": job.id,
        "job": job.name,
        "payload": job.payload,
        "queue": job.queue,
        "delay": job.delay_seconds(now),
        "priority": job.priority,
    }


def _read_items(value: object, queue: str, trace: dict[str, str] | None) -> list[JobMessage]:
    if not isinstance(value, list):
        raise RequestError('"jobs" must be a list', "invalid-request")
    if len(value) > MAX_BATCH_JOBS:
        raise RequestError(f"a batch has at most {MAX_BATCH_JOBS} jobs", "too-large")
    jobs: list[JobMessage] = []
    try:
        for item in value:
            jobs.append(_read_item(item, queue, trace))
    except RequestError as error:
        raise RequestError(f"jobs[{len(jobs)}]: {error}", error.code) from None
    return jobs


def _read_callback(
    value: object, name: str, queue: str, trace: dict[str, str] | None
) -> JobMessage | None:
    if value is None:
        return None
    try:
        return _read_item(value, queue, trace)
    except RequestError as error:
        raise RequestError(f"{name}: {error}", error.code) from None


def _read_item(value: object, queue: str, trace: dict[str, str] | None) -> JobMessage:
    members = read_members(value, "it", _ITEM_MEMBERS)
    own_queue = members.get("queue")
    return JobMessage(
        job=read_name(members.get("job"), "job"),
        id=read_id(members.get("id"), "id"),
        payload=read_payload(members.get("payload", {})),
        queue=queue if own_queue is None else read_name(own_queue, "queue"),
        delay=read_delay(members.get("delay", 0)),
        priority=read_priority(members.get("priority", 0)),
        trace=trace,
    )


def _triple(job: JobMessage | None) -> list[object] | None:
    """The part that a job has in the fingerprint of its batch."""
    return None if job is None else [job.job, job.payload, job.queue]


def _check_distinct(ids: Sequence[str]) -> None:
    seen: set[str] = set()
    for each in ids:
        if each in seen:
            raise RequestError(f"the id {each!r} is there twice", "invalid-request")
        seen.add(each)


def _count(value: object) -> int:
    return int(cast(int, value))


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is no list")
    return tuple(map(str, value))


def _optional_text(value: object) -> str | None:
    return None if value is None else str(value)
