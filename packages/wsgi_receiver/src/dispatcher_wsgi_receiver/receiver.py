"""The receiver: a WSGI callable (PEP 3333) that verifies requests and queues jobs.

Trust: whoever holds the secret may dispatch, read and cancel. A name that comes over the
network is looked up in a registry, never imported.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from wsgiref.types import StartResponse, WSGIEnvironment

from dispatcher_core.aliases import AliasRegistry
from dispatcher_core.batch_wire import MAX_BATCH_BODY
from dispatcher_core.errors import DispatcherError, QueueError
from dispatcher_core.protocols import Queue
from dispatcher_core.signing import Signer
from dispatcher_core.wire import MAX_JOB_BODY, VERSION

from .answers import Answer, time_text
from .batches import Batches
from .body import BODY_TIMEOUT, announces_body, check_no_body, kept_socket
from .capacity import Capacity
from .jobs import Jobs
from .lingering import LastAnswer
from .problems import Refused, internal_problem, problem
from .routes import Operation, match
from .verification import UnverifiedRequest, VerifiedRequest, Verifier
from .watchdog import Watchdog

__all__ = ["Receiver"]

_MAX_LOGGED = 200
# A client that was refused may go on sending, so that it sees its answer; a stranger who does
# not must not keep the thread.
_UNREAD_SECONDS = 1.0

logger = logging.getLogger("dispatcher.receiver")


class Receiver:
    """The WSGI callable. Many threads may call it at once.

    Args:
        signer: verifies the requests.
        queue: where the jobs go.
        registry: the jobs that may be asked for.
        clock: the time in Unix seconds.
        max_job_body: the most bytes that the body of a dispatch may have.
        max_batch_body: the most bytes that the body of a batch's dispatch may have.
        body_timeout: seconds in which a body must have come, besides a second for each
            256 KiB that have come; kept where the server gives the connection away, as gunicorn
            and our own server do.
        max_queued: how many jobs may wait in the queue; None for no limit.
    """

    def __init__(
        self,
        signer: Signer,
        queue: Queue,
        registry: AliasRegistry,
        *,
        clock: Callable[[], float] = time.time,
        max_job_body: int = MAX_JOB_BODY,
        max_batch_body: int = MAX_BATCH_BODY,
        body_timeout: float = BODY_TIMEOUT,
        max_queued: int | None = None,
    ) -> None:
        limits: dict[Operation, int] = {
            "dispatch": max_job_body,
            "dispatch-batch": max_batch_body,
        }
        self._watchdog = Watchdog()
        self._verifier = Verifier(signer, clock, limits, self._watchdog, body_timeout)
        self._unread_seconds = min(_UNREAD_SECONDS, body_timeout)
        self._queue = queue
        self._clock = clock
        intake = queue if max_queued is None else Capacity(queue, max_queued)
        jobs, batches = Jobs(queue, registry, intake), Batches(queue, registry, intake)
        self._operations = {
            "dispatch": jobs.dispatch,
            "dispatch-batch": batches.dispatch,
            "job-status": jobs.status,
            "cancel-job": jobs.cancel,
            "batch-status": batches.status,
            "cancel-batch": batches.cancel,
            "ping": self._ping,
        }

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        """Answer one request; whatever goes wrong becomes a problem document."""
        method = environ["REQUEST_METHOD"]
        try:
            answer = self._answer(environ)
            body = answer.send(start_response, method)
        except Exception:
            logger.exception("a request failed: %s", _described(environ))
            answer = internal_problem()
            body = answer.send(start_response, method)
        connection = kept_socket(environ)
        if answer.is_last and connection is not None:
            return LastAnswer(body, connection, self._watchdog, self._unread_seconds)
        return body

    def _answer(self, environ: WSGIEnvironment) -> Answer:
        try:
            request = self._read(environ)
        except Refused as error:
            return replace(self._refusal(environ, error), is_last=announces_body(environ))
        except Exception:
            logger.exception("a request was not read: %s", _described(environ))
            return replace(internal_problem(), is_last=announces_body(environ))
        if request is None:
            return self._health()
        try:
            verified = self._verifier.verify(request)
            return self._operations[verified.route.operation](verified)
        except Refused as error:
            return self._refusal(environ, error)

    def _read(self, environ: WSGIEnvironment) -> UnverifiedRequest | None:
        """The request, read whole; None where it asks for the health, which everybody may."""
        route = match(
            environ["REQUEST_METHOD"],
            environ.get("PATH_INFO", ""),
            environ.get("QUERY_STRING", ""),
        )
        if route.operation == "health":
            check_no_body(environ)
            return None
        return self._verifier.read(environ, route)

    def _refusal(self, environ: WSGIEnvironment, error: DispatcherError) -> Answer:
        _log_refusal(environ, error)
        return problem(error, self._clock())

    def _ping(self, request: VerifiedRequest) -> Answer:
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
