"""A dispatcher for tests: it sends nothing and remembers everything."""

import secrets
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

from ..delivery import Clock, Delivery
from ..dispatcher import Dispatcher
from ..errors import IdReused, SendFailed
from ..jobs import Job
from ..jsontext import dump, load
from ..protocols import Request, Response
from ..signing import Signer
from ..status import FINISHED, STATES, JobStatus
from ..wire import VERSION, JobMessage, decode_dispatch, encode_status, format_time
from .memory import MemoryQueue

__all__ = ["FakeDispatcher"]

_URL = "https://backend.invalid"
_PATIENCE = 4 * 3600.0

_STATUSES = {
    "malformed": 400,
    "bad-signature": 401,
    "timestamp-out-of-range": 401,
    "not-found": 404,
    "method-not-allowed": 405,
    "timeout": 408,
    "length-required": 411,
    "too-large": 413,
    "unsupported-media-type": 415,
    "unknown-job": 422,
    "invalid-payload": 422,
    "invalid-request": 422,
    "id-reused": 422,
    "queue-full": 429,
    "internal": 500,
    "unavailable": 503,
}
_NO_ANSWER = frozenset(("unreachable", "tls-failed"))


class FakeDispatcher(Dispatcher):
    """A dispatcher that sends nothing, needs no settings, and records what it is given.

    Behind it is a backend in memory which accepts every job and runs none: a job stays
    ``queued`` (or ``scheduled``) until a test says otherwise with :meth:`set_status`. Calls
    go through the real code up to the sender, so that what a backend would refuse for its
    form is refused here too. Nothing sleeps: a wait ends at once when its time is up.
    """

    def __init__(self) -> None:
        super().__init__()
        self._answers = _Backend()
        self._fake = Delivery(
            _URL,
            Signer(secrets.token_hex(32)),
            self._answers,
            timeout=5.0,
            deadline=15.0,
            tries=1,
            clock=_virtual_clock(),
        )

    @property
    def dispatched(self) -> list[JobMessage]:
        """The jobs that were accepted, in order, each once."""
        return self._answers.queue.jobs

    def assert_dispatched(
        self,
        job: str | Callable[..., object],
        payload: Mapping[str, object] | None = None,
        queue: str | None = None,
        *,
        times: int | None = None,
    ) -> list[JobMessage]:
        """The accepted jobs that match.

        Args:
            job: the name, or the marked callable.
            payload: the whole payload; None for any.
            queue: the queue; None for any.
            times: how many there must be; None for at least one.

        Raises:
            AssertionError: there are fewer, or more.
        """
        wanted = Job(job, payload)
        found = [
            message
            for message in self.dispatched
            if message.job == wanted.name
            and (payload is None or message.payload == load(dump(wanted.payload).encode("utf-8")))
            and queue in (None, message.queue)
        ]
        if found if times is None else len(found) == times:
            return found
        expected = "at least 1" if times is None else str(times)
        raise AssertionError(
            f"expected {expected} of {_described(wanted.name, payload, queue)}, found"
            f" {len(found)}; dispatched: {self._listed()}"
        )

    def assert_nothing_dispatched(self) -> None:
        """Check that no job was accepted.

        Raises:
            AssertionError: some were; the message lists them.
        """
        if self.dispatched:
            raise AssertionError(f"expected no job, dispatched: {self._listed()}")

    def fail_next(self, code: str = "unreachable") -> None:
        """Make the next call fail; called again, the one after it too.

        Args:
            code: a problem code of the wire format, ``unreachable``, ``tls-failed``,
                ``rejected`` or ``bad-answer``.

        Raises:
            ValueError: it is none of these.
        """
        self._answers.fail_next(code)

    def set_status(self, id: str, **fields: Any) -> JobStatus:
        """Set fields of a job's status, which :meth:`status` then returns.

        Args:
            id: of a job that was dispatched here, or of any other.
            fields: of ``JobStatus``; with a final state, ``finished_at`` defaults to now.

        Raises:
            TypeError: there is no such field.
            ValueError: there is no such state.
        """
        return self._answers.set_status(id, fields)

    def _delivery(self) -> Delivery:
        return self._fake

    def _listed(self) -> str:
        return "; ".join(_described(m.job, m.payload, m.queue) for m in self.dispatched) or "none"


def _described(job: str, payload: Mapping[str, object] | None, queue: str | None) -> str:
    with_payload = "" if payload is None else f" with {dict(payload)!r}"
    return f"{job!r}{with_payload}{'' if queue is None else f' in {queue!r}'}"


class _Backend:
    """A backend's answers, from a queue in memory."""

    def __init__(self) -> None:
        self.queue = MemoryQueue()
        self._failures: deque[str] = deque()

    def send(self, request: Request, timeout: float) -> Response:
        """The answer that a receiver would give."""
        if self._failures:
            return _failure(self._failures.popleft())
        path = request.url.removeprefix(_URL)
        if path == "/dispatch":
            return self._dispatch(request.headers["webhook-id"], request.body)
        if path == "/ping":
            now = format_time(datetime.now(UTC))
            return _answer(200, {"time": now, "versions": [VERSION], "workers": None})
        job_id = path.removeprefix("/jobs/")
        is_cancel = request.method == "DELETE"
        status = self.queue.cancel_job(job_id) if is_cancel else self.queue.find_job(job_id)
        return _failure("not-found") if status is None else _answer(200, encode_status(status))

    def fail_next(self, code: str) -> None:
        """Make the next request fail."""
        known = {*_STATUSES, *_NO_ANSWER, "rejected", "bad-answer"}
        if code not in known:
            raise ValueError(f"{code!r} is none of {', '.join(sorted(known))}")
        self._failures.append(code)

    def set_status(self, id: str, fields: dict[str, Any]) -> JobStatus:
        """Set fields of a job's status."""
        if fields.get("state", "queued") not in STATES:
            raise ValueError(f"state={fields['state']!r} is none of {', '.join(sorted(STATES))}")
        now = datetime.now(UTC)
        known = self.queue.find_job(id) or JobStatus(
            id=id, job="test", queue="default", state="queued", created_at=now, available_at=now
        )
        ended = {"finished_at": now} if fields.get("state") in FINISHED else {}
        status = replace(known, **(ended | fields))
        self.queue.set_status(status)
        return status

    def _dispatch(self, id: str, body: bytes) -> Response:
        message = decode_dispatch(id, body)
        try:
            is_new = self.queue.put(message)
        except IdReused:
            return _failure("id-reused")
        state = cast(JobStatus, self.queue.find_job(id)).state
        if is_new:
            return _answer(202, {"id": id, "state": state})
        return _answer(200, {"id": id, "state": state, "duplicate": True})


def _failure(code: str) -> Response:
    if code in _NO_ANSWER:
        raise SendFailed("a test made this call fail", code, retryable=code == "unreachable")
    if code == "bad-answer":
        return Response(200, {}, b"<html>")
    if code == "rejected":
        return Response(403, {}, b"")
    status = _STATUSES[code]
    headers = {"retry-after": "1"} if status in (429, 503) else {}
    problem = {"status": status, "code": code, "detail": "a test made this call fail"}
    return _answer(status, problem, {"content-type": "application/problem+json", **headers})


def _answer(
    status: int, content: Mapping[str, object], headers: Mapping[str, str] | None = None
) -> Response:
    return Response(status, headers or {}, dump(content).encode("utf-8"))


def _virtual_clock() -> Clock:
    """A clock on which only sleeping takes time, and no more than some hours."""
    slept = 0.0

    def sleep(seconds: float) -> None:
        nonlocal slept
        slept += seconds
        if slept > _PATIENCE:
            raise AssertionError("waiting for a job that nobody ends: use set_status()")

    async def sleep_async(seconds: float) -> None:
        sleep(seconds)

    return Clock(monotonic=lambda: slept, sleep=sleep, sleep_async=sleep_async)
