"""Single jobs: taken, followed and cancelled."""

import logging

from dispatcher_core.aliases import AliasRegistry
from dispatcher_core.errors import InvalidPayload, QueueUnavailable, UnknownJob
from dispatcher_core.protocols import Queue
from dispatcher_core.status import JobStatus
from dispatcher_core.wire import JobMessage, decode_dispatch, encode_status

from .answers import Answer
from .capacity import Intake
from .problems import Refusal
from .verification import VerifiedRequest

__all__ = ["Jobs"]

logger = logging.getLogger("dispatcher.receiver")


class Jobs:
    """What requests about single jobs are answered.

    Args:
        queue: where the jobs are.
        registry: the jobs that may be asked for.
        intake: where new jobs go: the queue, or what limits it.
    """

    def __init__(self, queue: Queue, registry: AliasRegistry, intake: Intake) -> None:
        self._queue = queue
        self._registry = registry
        self._intake = intake

    def dispatch(self, request: VerifiedRequest) -> Answer:
        """Queue the job in the body.

        Raises:
            RequestError: the body breaks the wire format.
            UnknownJob: nothing is registered for its name.
            InvalidPayload: its payload does not fit the handler.
            QueueError: the queue does not take it.
        """
        job = decode_dispatch(request.id, request.body)
        self._check_handler(job)
        if self._intake.put(job):
            logger.info("accepted %s %s in %s", job.id, job.job, job.queue)
            state = "scheduled" if job.delay > 0 else "queued"
            return Answer(202, {"id": job.id, "state": state})
        logger.info("known already: %s %s in %s", job.id, job.job, job.queue)
        return Answer(200, {"id": job.id, "state": self._state(job.id), "duplicate": True})

    def status(self, request: VerifiedRequest) -> Answer:
        """What is known of the job that the path names.

        Raises:
            Refusal: ``not-found``.
            QueueUnavailable: the queue could not be read, for now.
        """
        return _answer(self._queue.find_job(request.route.id))

    def cancel(self, request: VerifiedRequest) -> Answer:
        """Cancel the job that the path names; the answer is its status after that.

        Raises:
            Refusal: ``not-found``.
            QueueUnavailable: the queue could not be written, for now.
        """
        return _answer(self._queue.cancel_job(request.route.id))

    def _check_handler(self, job: JobMessage) -> None:
        try:
            self._registry.resolve(job.job).check(job.payload)
        except (UnknownJob, InvalidPayload):
            # A deploy may have come between: a job accepted before it is not refused now.
            if not self._queue.is_taken(job.id):
                raise

    def _state(self, id: str) -> str:
        status = self._queue.find_job(id)
        if status is None:
            raise QueueUnavailable(f"the job {id} was forgotten while it was sent again")
        return status.state


def _answer(status: JobStatus | None) -> Answer:
    if status is None:
        raise Refusal("no job is known by this id", "not-found")
    return Answer(200, encode_status(status))
