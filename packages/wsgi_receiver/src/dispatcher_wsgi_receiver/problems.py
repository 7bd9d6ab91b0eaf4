"""Problem documents (RFC 9457): how the receiver says no."""

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType

from dispatcher_core.errors import (
    DispatcherError,
    IdReused,
    InvalidPayload,
    QueueError,
    QueueFull,
    QueueUnavailable,
    RequestError,
    UnknownJob,
)
from dispatcher_core.problems import STATUSES

from .answers import Answer, time_text

__all__ = ["Refusal", "Refused", "internal_problem", "problem"]

_RETRY_AFTER = {"queue-full": 5, "unavailable": 1}

# What a queue says of itself may name files and statements: that belongs in the log only.
_DETAILS = {
    "queue-full": "as many jobs wait here as are allowed: try again later",
    "unavailable": "the queue cannot be used for now: try again later",
}

Refused = (RequestError, UnknownJob, InvalidPayload, IdReused, QueueFull, QueueUnavailable)
"""The errors that a client is told about."""


class Refusal(RequestError):
    """A request that the receiver itself has a reason to refuse.

    Attributes:
        code: one of :data:`dispatcher_core.problems.STATUSES`.
        headers: header fields of the answer.
        members: members of the document besides those that every one has.
    """

    def __init__(
        self,
        message: str,
        code: str,
        headers: tuple[tuple[str, str], ...] = (),
        members: Mapping[str, object] = MappingProxyType({}),
    ) -> None:
        super().__init__(message, code)
        self.headers = headers
        self.members = members


def problem(error: DispatcherError, now: float) -> Answer:
    """The answer that tells a client why its request is refused.

    Args:
        error: one of :data:`Refused`.
        now: the time here in Unix seconds, told to a client whose clock is off.
    """
    code, detail, headers, members = error.code, str(error), [], {}
    if isinstance(error, Refusal):
        headers, members = list(error.headers), dict(error.members)
    elif isinstance(error, QueueError):
        detail = _DETAILS.get(code, detail)
    if STATUSES[code] == 401:
        headers.append(("WWW-Authenticate", "Webhook-Signature"))
    if code in _RETRY_AFTER:
        headers.append(("Retry-After", str(_RETRY_AFTER[code])))
    if code == "timestamp-out-of-range":
        members["time"] = time_text(now)
    return _document(code, detail, tuple(headers), members)


def internal_problem() -> Answer:
    """The answer after an error of our own: it says nothing of it."""
    return _document("internal", "the backend failed; its log says how", (), {})


def _document(
    code: str,
    detail: str,
    headers: tuple[tuple[str, str], ...],
    members: Mapping[str, object],
) -> Answer:
    status = STATUSES[code]
    content = {
        # RFC 9457, section 4.2.1: with this type the title is the phrase of the status.
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        **members,
    }
    return Answer(status, content, "application/problem+json", headers)
