"""What a backend is asked: each request of the wire format, and what its answer means."""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from .answers import accepted, accepted_batch, batch_status, job_status, pong
from .batching import BatchRequest
from .delivery import Call, Delivery
from .errors import DeliveryError, InvalidJob
from .jobs import Job
from .protocols import Response
from .result import Result
from .status import BatchStatus, JobStatus, Pong
from .waiting import Waiting
from .wire import MAX_JOB_BODY, encode_dispatch

__all__ = ["Client"]

logger = logging.getLogger("dispatcher")


@dataclass(frozen=True, slots=True)
class Client:
    """Asks one backend. Threads may share it.

    Attributes:
        delivery: carries the requests.
    """

    delivery: Delivery

    def now(self) -> datetime:
        """The time, aware."""
        return datetime.fromtimestamp(self._seconds(), UTC)

    def dispatch(self, job: Job, queue: str) -> Result:
        """Send a job; what happens on the way is logged, and a failed result.

        Raises:
            InvalidJob: the job is over ``MAX_JOB_BODY`` bytes.
        """
        body = encode_dispatch(job, queue, self.now())
        if len(body) > MAX_JOB_BODY:
            raise InvalidJob(
                f"the job has {len(body)} bytes as JSON, over the limit of {MAX_JOB_BODY}:"
                " store what is large elsewhere and send where it is"
            )
        call = Call("POST", "/dispatch", job.id, body)
        try:
            return accepted(job.id, self.delivery.send(call), self._seconds())
        except DeliveryError as error:
            logger.error("job %s (%s) not dispatched: %s", job.id, job.name, _outcome(error))
            return Result(id=job.id, ids=(job.id,), error=error)

    def dispatch_batch(self, request: BatchRequest) -> Result:
        """Send a batch; what happens on the way is logged, and a failed result."""
        call = Call("POST", "/dispatch/batch", request.id, request.body)
        try:
            response = self.delivery.send(call)
            return accepted_batch(request.id, request.ids, response, self._seconds())
        except DeliveryError as error:
            count = len(request.ids)
            logger.error(
                "batch %s (%d jobs) not dispatched: %s", request.id, count, _outcome(error)
            )
            return Result(id=request.id, ids=request.ids, error=error)

    def job(self, method: str, id: str, within: float | None = None) -> JobStatus:
        """Ask for a job with GET, or cancel it with DELETE.

        Args:
            method: ``GET`` or ``DELETE``.
            id: the job's id.
            within: seconds for all tries, None for the usual deadline.

        Raises:
            NotFound: the backend does not know the id.
            DeliveryError: it was not reached, or it refused.
        """
        return job_status(id, self._ask(method, f"/jobs/{id}", within), self._seconds())

    def batch(self, method: str, id: str, within: float | None = None) -> BatchStatus:
        """Like :meth:`job`, of a batch."""
        return batch_status(id, self._ask(method, f"/batches/{id}", within), self._seconds())

    def ping(self, within: float | None = None) -> Pong:
        """Whether the backend can be reached, accepts our secret, and has workers.

        Raises:
            DeliveryError: it was not reached, or it refused for another reason than our
                signature.
        """
        return pong(self._ask("GET", "/ping", within), self._seconds())

    def wait_for_job(self, id: str, timeout: float | None) -> Waiting[JobStatus]:
        """A wait for the job's end, which begins now.

        Raises:
            InvalidJob: the timeout is negative, or no number.
        """
        ask = partial(self.job, "GET", id)
        return Waiting(f"job {id}", timeout, ask, self._workers, self.delivery.clock)

    def wait_for_batch(self, id: str, timeout: float | None) -> Waiting[BatchStatus]:
        """Like :meth:`wait_for_job`, of a batch."""
        ask = partial(self.batch, "GET", id)
        return Waiting(f"batch {id}", timeout, ask, self._workers, self.delivery.clock)

    def _ask(self, method: str, path: str, within: float | None) -> Response:
        return self.delivery.send(Call.without_body(method, path), within)

    def _seconds(self) -> float:
        return self.delivery.clock.now()

    def _workers(self, within: float) -> int | None:
        try:
            return self.ping(within).workers
        except DeliveryError:
            return None


def _outcome(error: DeliveryError) -> str:
    """The code and, where something broke, its kind: the text could hold anything."""
    cause = error.__cause__
    if cause is None or isinstance(cause, DeliveryError):
        return error.code
    return f"{error.code} ({type(cause).__name__})"
