"""A backend's answers without a backend."""

from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from ..batch_wire import BatchMessage, decode_batch, encode_batch_status
from ..errors import IdReused, SendFailed
from ..jsontext import dump
from ..problems import STATUSES
from ..protocols import Request, Response
from ..status import BATCH_STATES, FINISHED, STATES, BatchStatus, JobStatus
from ..wire import VERSION, JobMessage, decode_dispatch, encode_status, format_time
from .memory import MemoryQueue

__all__ = ["URL", "FakeBackend"]

URL = "https://backend.invalid"

_NO_ANSWER = frozenset(("unreachable", "tls-failed"))
_ON_PURPOSE = "a test made this call fail"


class FakeBackend:
    """A sender that answers as a backend would, from a queue in memory.

    Attributes:
        queue: the queue.
        dispatched: the jobs that were accepted singly, in order, each once.
    """

    def __init__(self) -> None:
        self.queue = MemoryQueue()
        self.dispatched: list[JobMessage] = []
        self._failures: deque[str] = deque()

    def send(self, request: Request, timeout: float) -> Response:
        """The answer that a receiver would give."""
        if self._failures:
            return _failure(self._failures.popleft())
        path = request.url.removeprefix(URL)
        if request.method == "POST":
            take = self._dispatch_batch if path == "/dispatch/batch" else self._dispatch
            return take(request.headers["webhook-id"], request.body)
        if path == "/ping":
            now = format_time(datetime.now(UTC))
            return _answer(200, {"time": now, "versions": [VERSION], "workers": None})
        _, kind, known = path.split("/")
        tell = self._tell_job if kind == "jobs" else self._tell_batch
        status = tell(known, request.method == "DELETE")
        return _failure("not-found") if status is None else _answer(200, status)

    def fail_next(self, code: str) -> None:
        """Make the next request fail.

        Raises:
            ValueError: no request can fail with this code.
        """
        known = {*STATUSES, *_NO_ANSWER, "rejected", "bad-answer"}
        if code not in known:
            raise ValueError(f"{code!r} is none of {', '.join(sorted(known))}")
        self._failures.append(code)

    def set_status(self, id: str, fields: dict[str, Any]) -> JobStatus:
        """Set fields of a job's status.

        Raises:
            TypeError: there is no such field.
            ValueError: there is no such state.
        """
        _check_state(fields.get("state", "queued"), STATES)
        now = datetime.now(UTC)
        known = self.queue.find_job(id) or JobStatus(
            id=id, job="test", queue="default", state="queued", created_at=now, available_at=now
        )
        ended = {"finished_at": now} if fields.get("state") in FINISHED else {}
        status = replace(known, **(ended | fields))
        self.queue.set_status(status)
        return status

    def set_batch_status(self, id: str, fields: dict[str, Any]) -> BatchStatus:
        """Set fields of a batch's status.

        Raises:
            TypeError: there is no such field.
            ValueError: there is no such state.
        """
        _check_state(fields.get("state", "running"), BATCH_STATES)
        known = self.queue.find_batch(id) or _empty_batch(id)
        status = replace(known, **(_ended(known, fields) | fields))
        self.queue.set_batch_status(status)
        return status

    def _dispatch(self, id: str, body: bytes) -> Response:
        message = decode_dispatch(id, body)
        try:
            is_new = self.queue.put(message)
        except IdReused:
            return _failure("id-reused")
        if is_new:
            self.dispatched.append(message)
        status = self.queue.find_job(id)
        return _accepted(is_new, {"id": id, "state": status and status.state})

    def _dispatch_batch(self, id: str, body: bytes) -> Response:
        message = decode_batch(id, body)
        try:
            known = self.queue.put_batch(message)
        except IdReused:
            return _failure("id-reused")
        ids = message.ids if known is None else known
        return _accepted(known is None, {"id": id, "ids": ids, "state": self._state(message)})

    def _state(self, batch: BatchMessage) -> str:
        status = self.queue.find_batch(batch.id)
        if status is None:  # jobs that were queued singly
            return "running" if batch.jobs else "succeeded"
        return status.state

    def _tell_job(self, id: str, cancel: bool) -> dict[str, object] | None:
        status = self.queue.cancel_job(id) if cancel else self.queue.find_job(id)
        return None if status is None else encode_status(status)

    def _tell_batch(self, id: str, cancel: bool) -> dict[str, object] | None:
        status = self.queue.cancel_batch(id) if cancel else self.queue.find_batch(id)
        return None if status is None else encode_batch_status(status)


def _check_state(state: object, known: frozenset[str]) -> None:
    if state not in known:
        raise ValueError(f"state={state!r} is none of {', '.join(sorted(known))}")


def _empty_batch(id: str) -> BatchStatus:
    return BatchStatus(
        id=id,
        state="running",
        total=0,
        pending=0,
        succeeded=0,
        failed=0,
        cancelled=0,
        created_at=datetime.now(UTC),
    )


def _ended(known: BatchStatus, fields: dict[str, Any]) -> dict[str, Any]:
    """What a final state brings along: all that was pending has come to the same end."""
    state = fields.get("state")
    if state not in FINISHED:
        return {}
    count = getattr(known, state) + known.pending
    return {state: count, "pending": 0, "finished_at": datetime.now(UTC)}


def _accepted(is_new: bool, content: Mapping[str, object]) -> Response:
    return _answer(202, content) if is_new else _answer(200, {**content, "duplicate": True})


def _failure(code: str) -> Response:
    if code in _NO_ANSWER:
        raise SendFailed(_ON_PURPOSE, code, retryable=code == "unreachable")
    if code == "bad-answer":
        return Response(200, {}, b"<html>")
    if code == "rejected":
        return Response(403, {}, b"")
    status = STATUSES[code]
    headers = {"retry-after": "1"} if status in (429, 503) else {}
    problem = {"status": status, "code": code, "detail": _ON_PURPOSE}
    if code == "invalid-batch":
        problem["errors"] = [{"at": 0, "code": "unknown-job", "detail": _ON_PURPOSE}]
    return _answer(status, problem, {"content-type": "application/problem+json", **headers})


def _answer(
    status: int, content: Mapping[str, object], headers: Mapping[str, str] | None = None
) -> Response:
    return Response(status, headers or {}, dump(content).encode("utf-8"))
