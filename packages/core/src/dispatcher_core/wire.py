"""The wire format, version 1: requests and answers as bytes, and back."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

from .fields import (
    read_delay,
    read_name,
    read_object,
    read_payload,
    read_priority,
    read_trace,
)
from .jobs import Job
from .jsontext import dump
from .status import STATES, JobError, JobState, JobStatus, Progress

__all__ = [
    "MAX_JOB_BODY",
    "VERSION",
    "JobMessage",
    "decode_dispatch",
    "decode_status",
    "encode_dispatch",
    "encode_status",
    "fingerprint",
    "format_time",
    "job_fingerprint",
    "parse_time",
]

VERSION = 1
MAX_JOB_BODY = 1024 * 1024

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
_MEMBERS = frozenset(("type", "job", "payload", "queue", "delay", "priority", "trace"))


@dataclass(frozen=True, slots=True, kw_only=True)
class JobMessage:
    """A job as it came over the wire, its defaults filled in.

    Attributes:
        id: the job's id.
        job: the name as sent.
        payload: the handler's keyword arguments.
        queue: the queue to put it in.
        delay: seconds before it may start.
        priority: -100 to 100; higher ones start first.
        trace: the sender's trace context (W3C Trace Context), None without a valid one.
    """

    id: str
    job: str
    payload: dict[str, object]
    queue: str
    delay: float
    priority: int
    trace: dict[str, str] | None

    @property
    def fingerprint(self) -> bytes:
        """What tells whether two messages with one id mean the same job."""
        return job_fingerprint(self.job, self.payload, self.queue)


def job_fingerprint(job: str, payload: Mapping[str, object], queue: str) -> bytes:
    """The SHA-256 of what makes a job the same job.

    Delay, priority and trace stay outside, since a second try may compute them anew.
    """
    return fingerprint([job, payload, queue])


def fingerprint(value: object) -> bytes:
    """The SHA-256 of the value as canonical JSON text: ASCII, keys sorted, no blanks."""
    return hashlib.sha256(_CANONICAL.encode(value).encode("ascii")).digest()


def encode_dispatch(
    job: Job, queue: str, now: datetime, trace: Mapping[str, str] | None = None
) -> bytes:
    """The body that dispatches the job.

    Args:
        job: the job.
        queue: the queue for a job that names none.
        now: the time against which a ``datetime`` as delay is counted.
        trace: the trace context to hand on.
    """
    message = {
        "type": "dispatch",
        "job": job.name,
        "payload": job.payload,
        "queue": job.queue or queue,
        "delay": job.delay_seconds(now),
        "priority": job.priority,
        "trace": None if trace is None else dict(trace),
    }
    return dump(message).encode("utf-8")


def decode_dispatch(id: str, body: bytes) -> JobMessage:
    """The job in the body of a dispatch.

    Args:
        id: the job's id, from the ``webhook-id`` header.
        body: the raw body.

    Raises:
        RequestError: ``malformed`` for what is no JSON within the limits, else
            ``invalid-request`` with the member that is wrong.
    """
    members = read_object(body, "dispatch", _MEMBERS)
    return JobMessage(
        id=id,
        job=read_name(members.get("job"), "job"),
        payload=read_payload(members.get("payload", {})),
        queue=read_name(members.get("queue", "default"), "queue"),
        delay=read_delay(members.get("delay", 0)),
        priority=read_priority(members.get("priority", 0)),
        trace=read_trace(members.get("trace")),
    )


def encode_status(status: JobStatus) -> dict[str, object]:
    """The members that answer a question for a job's status."""
    progress, error = status.progress, status.error
    return {
        "id": status.id,
        "job": status.job,
        "queue": status.queue,
        "state": status.state,
        "attempt": status.attempt,
        "progress": progress and {"done": progress.done, "total": progress.total},
        "result": status.result,
        "error": error and {"code": error.code, "type": error.type, "message": error.message},
        "batch_id": status.batch_id,
        "cancel_requested": status.cancel_requested,
        "created_at": format_time(status.created_at),
        "available_at": format_time(status.available_at),
        "started_at": format_time(status.started_at),
        "finished_at": format_time(status.finished_at),
    }


def decode_status(answer: Mapping[str, object]) -> JobStatus:
    """The status in a backend's answer; members unknown here are ignored.

    Raises:
        ValueError: it is none.
    """
    try:
        state = answer["state"]
        created_at = parse_time(answer["created_at"])
        if state not in STATES or created_at is None:
            raise ValueError(f"unknown state {state!r}")
        return JobStatus(
            id=str(answer["id"]),
            job=str(answer["job"]),
            queue=str(answer["queue"]),
            state=cast(JobState, state),
            attempt=int(cast(int, answer["attempt"])),
            progress=_progress(answer.get("progress")),
            result=answer.get("result"),
            error=_error(answer.get("error")),
            batch_id=None if answer.get("batch_id") is None else str(answer["batch_id"]),
            cancel_requested=bool(answer.get("cancel_requested")),
            created_at=created_at,
            available_at=parse_time(answer.get("available_at")),
            started_at=parse_time(answer.get("started_at")),
            finished_at=parse_time(answer.get("finished_at")),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not the status of a job: {error!r}") from None


def format_time(time: datetime | None) -> str | None:
    """The time as RFC 3339 text in UTC, with milliseconds."""
    if time is None:
        return None
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_time(text: object) -> datetime | None:
    """The aware time in RFC 3339 text.

    Raises:
        ValueError: it is none.
    """
    if text is None:
        return None
    time = datetime.fromisoformat(str(text))
    if time.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{text!r} is out of range") from None


def _progress(value: object) -> Progress | None:
    if value is None:
        return None
    members = cast(dict[str, int], value)
    return Progress(int(members["done"]), int(members["total"]))


def _error(value: object) -> JobError | None:
    if value is None:
        return None
    members = cast(dict[str, str], value)
    return JobError(str(members["code"]), str(members["type"]), str(members["message"]))
