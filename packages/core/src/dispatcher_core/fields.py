"""Members of requests, each read with its own error."""

import re
from collections.abc import Set

from .errors import RequestError
from .jobs import MAX_DELAY, MAX_PRIORITY
from .jsontext import load
from .names import is_id, is_name

__all__ = [
    "read_delay",
    "read_flag",
    "read_id",
    "read_members",
    "read_name",
    "read_object",
    "read_payload",
    "read_priority",
    "read_trace",
]

# W3C Trace Context, section 3.2.2; "ff" is no valid version.
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_MAX_TRACESTATE = 512


def read_object(body: bytes, kind: str, known: Set[str]) -> dict[str, object]:
    """The members of a request's body.

    Args:
        body: JSON text in UTF-8.
        kind: what its member ``type`` must say.
        known: the members that it may have.

    Raises:
        RequestError: ``malformed`` for what is no JSON within the limits, else
            ``invalid-request``.
    """
    try:
        message = load(body)
    except ValueError as error:
        raise RequestError(str(error), "malformed") from None
    members = read_members(message, "the body", known)
    if members.get("type") != kind:
        raise RequestError(f'"type" must be "{kind}" here', "invalid-request")
    return members


def read_members(value: object, where: str, known: Set[str]) -> dict[str, object]:
    """The members of an object that may have only those that are known.

    Raises:
        RequestError: it is no object, or has others; they are named.
    """
    if not isinstance(value, dict):
        raise RequestError(f"{where} must be a JSON object", "invalid-request")
    if not value.keys() <= known:
        names = ", ".join(map(ascii, sorted(value.keys() - known)))
        raise RequestError(f"{where} has unknown members: {names}", "invalid-request")
    return value


def read_id(value: object, member: str) -> str:
    """An id."""
    if not isinstance(value, str) or not is_id(value):
        raise RequestError(
            f'"{member}" must be a string of 1 to 64 characters A-Z a-z 0-9 _ -,'
            " not starting with -",
            "invalid-request",
        )
    return value


def read_payload(value: object) -> dict[str, object]:
    """A job's payload."""
    if not isinstance(value, dict):
        raise RequestError('"payload" must be an object', "invalid-request")
    return value


def read_flag(value: object, member: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise RequestError(f'"{member}" must be true or false', "invalid-request")
    return value


def read_name(value: object, member: str) -> str:
    """The name of a job or a queue."""
    if not isinstance(value, str) or not is_name(value):
        raise RequestError(
            f'"{member}" must be a string of 1 to 128 characters A-Z a-z 0-9 _ . : -,'
            " not starting with . : or -",
            "invalid-request",
        )
    return value


def read_delay(value: object) -> float:
    """Seconds before a job may start."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RequestError('"delay" must be a number of seconds', "invalid-request")
    if not 0 <= value <= MAX_DELAY:
        raise RequestError('"delay" must be 0 seconds to a year', "invalid-request")
    return float(value)


def read_priority(value: object) -> int:
    """A job's priority."""
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > MAX_PRIORITY:
        raise RequestError('"priority" must be a whole number, -100 to 100', "invalid-request")
    return value


def read_trace(value: object) -> dict[str, str] | None:
    """A trace context; an invalid one is dropped, never a reason to refuse the job."""
    if not isinstance(value, dict):
        return None
    parent, state = value.get("traceparent"), value.get("tracestate")
    if not isinstance(parent, str) or not _TRACEPARENT.fullmatch(parent):
        return None
    if isinstance(state, str) and len(state) <= _MAX_TRACESTATE:
        return {"traceparent": parent, "tracestate": state}
    return {"traceparent": parent}
