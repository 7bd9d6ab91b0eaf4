"""The receiver: a WSGI callable (PEP 3333) that verifies requests and queues jobs.

Trust: whoever holds the secret may dispatch, read and cancel. Nothing unsigned is trusted:
of the headers only those are read that the signature covers, and those that say how to read
the body. A name that comes over the network is looked up in a registry, never imported.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from wsgiref.types import StartResponse, WSGIEnvironment

from dispatcher_core.aliases import AliasRegistry
from dispatcher_core.errors import (
    DispatcherError,
    InvalidPayload,
    QueueError,
    QueueUnavailable,
    UnknownJob,
)
from dispatcher_core.protocols import Queue
from dispatcher_core.signing import Signer, read_headers, signed_path
from dispatcher_core.status import JobStatus
from dispatcher_core.wire import (
    MAX_JOB_BODY,
    VERSION,
    JobMessage,
    decode_dispatch,
    encode_status,
)

from .answers import Answer, time_text
from .body import body_length, check_media_type, check_no_body, read_body
from .problems import Refusal, Refused, internal_problem, problem
from .routes import Route, match

__all__ = ["Receiver"]

_HEADERS = {
    "webhook-id": "HTTP_WEBHOOK_ID",
    "webhook-timestamp": "HTTP_WEBHOOK_TIMESTAMP",
    "webhook-signature": "HTTP_WEBHOOK_SIGNATURE",
}
_MAX_LOGGED = 200

logger = logging.getLogger("dispatcher.receiver")


@dataclass(frozen=True, slots=True)
class _Verified:
    """A request that was signed with a secret of ours."""

    id: str
    route: Route
    body: bytes


class Receiver:
    """The WSGI callable. Many threads may call it at once.

    Args:
        signer: verifies the requests.
        queue: where the jobs go.
        registry: the jobs that may be asked for.
        clock: the time in Unix seconds.
        max_job_body: the most bytes that the body of a dispatch may have.
    """

    def __init__(
        self,
        signer: Signer,
        queue: Queue,
        registry: AliasRegistry,
        *,
        clock: Callable[[], float] = time.time,
        max_job_body: int = MAX_JOB_BODY,
    ) -> None:
        self._signer = signer
        self._queue = queue
        self._registry = registry
        self._clock = clock
        self._max_job_body = max_job_body
        self._operations = {
            "dispatch": self._dispatch,
            "status": self._status,
            "cancel": self._cancel,
            "ping": self._ping,
        }

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        """Answer one request; whatever goes wrong becomes a problem document."""
        method = environ["REQUEST_METHOD"]
        try:
            return self._answer(environ).send(start_response, method)
        except Exception:
            logger.exception("a request failed: %s", _described(environ))
            return internal_problem().send(start_response, method)

    def _answer(self, environ: WSGIEnvironment) -> Answer:
        try:
            return self._accepted(environ)
        except Refused as error:
            _log_refusal(environ, error)
            return problem(error, self._clock())

    def _accepted(self, environ: WSGIEnvironment) -> Answer:
        route = match(
            environ["REQUEST_METHOD"],
            environ.get("PATH_INFO", ""),
            environ.get("QUERY_STRING", ""),
        )
        if route.operation == "health":
            check_no_body(environ)
            return self._health()
        return self._operations[route.operation](self._verified(environ, route))

    def _verified(self, environ: WSGIEnvironment, route: Route) -> _Verified:
        signed = read_headers({name: environ.get(key, "") for name, key in _HEADERS.items()})
        length = self._length(environ, route)
        signed.check_time(self._clock())
        body = read_body(environ["wsgi.input"], length)
        content = body if route.method == "POST" else signed_path(route.method, route.path)
        self._signer.verify_signature(signed, content)
        return _Verified(signed.id, route, body)

    def _length(self, environ: WSGIEnvironment, route: Route) -> int:
        if route.method == "POST":
            check_media_type(environ)
            return body_length(environ, self._max_job_body)
        check_no_body(environ)
        return 0

    def _dispatch(self, request: _Verified) -> Answer:
        job = decode_dispatch(request.id, request.body)
        self._check_handler(job)
        if self._queue.put(job):
            logger.info("accepted %s %s in %s", job.id, job.job, job.queue)
            state = "scheduled" if job.delay > 0 else "queued"
            return Answer(202, {"id": job.id, "state": state})
        logger.info("known already: %s %s in %s", job.id, job.job, job.queue)
        return Answer(200, {"id": job.id, "state": self._state(job.id), "duplicate": True})

    def _check_handler(self, job: JobMessage) -> None:
        try:
            self._registry.resolve(job.job).check(job.payload)
        except (UnknownJob, InvalidPayload):
            # A deploy may have come between: a job accepted before it is not refused now.
            if self._queue.find_job(job.id) is None:
                raise

    def _state(self, id: str) -> str:
        status = self._queue.find_job(id)
        if status is None:
            raise QueueUnavailable(f"the job {id} was forgotten while it was sent again")
        return status.state

    def _status(self, request: _Verified) -> Answer:
        return _status_answer(self._queue.find_job(request.route.job_id))

    def _cancel(self, request: _Verified) -> Answer:
        return _status_answer(self._queue.cancel_job(request.route.job_id))

    def _ping(self, request: _Verified) -> Answer:
        workers = self._queue.workers()
        time = time_text(self._clock())
        return Answer(200, {"time": time, "versions": [VERSION], "workers": workers})

    def _health(self) -> Answer:
        try:
            self._queue.find_job("health")  # reads, which takes no write lock
        except QueueError as error:
            logger.warning("the queue is unavailable: %s", ascii(str(error)))
            return Answer(503, {"status": "unavailable"})
        return Answer(200, {"status": "ok"})


def _status_answer(status: JobStatus | None) -> Answer:
    if status is None:
        raise Refusal("no job is known by this id", "not-found")
    return Answer(200, encode_status(status))


def _described(environ: WSGIEnvironment) -> str:
    """The request for the log, with everything escaped that could forge a line."""
    request = f"{environ['REQUEST_METHOD']} {environ.get('PATH_INFO', '')}"
    return ascii(request[:_MAX_LOGGED])


def _log_refusal(environ: WSGIEnvironment, error: DispatcherError) -> None:
    # Of our own errors only the queue's are told in full: the others may quote the request.
    if isinstance(error, QueueError):
        logger.warning("%s: %s: %s", _described(environ), error.code, ascii(str(error)))
    else:
        logger.info("%s: %s", _described(environ), error.code)
