"""Batches: taken all or none, followed and cancelled."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice

from dispatcher_core.aliases import AliasRegistry
from dispatcher_core.batch_wire import BatchMessage, decode_batch, encode_batch_status
from dispatcher_core.errors import DispatcherError, InvalidPayload, QueueUnavailable, UnknownJob
from dispatcher_core.protocols import Queue
from dispatcher_core.status import BatchStatus
from dispatcher_core.wire import JobMessage

from .answers import Answer
from .capacity import Intake
from .problems import Refusal
from .verification import VerifiedRequest

__all__ = ["Batches"]

_MAX_ERRORS = 100
# A payload's keys may be long, and of an answer a sender reads 1 MiB at most.
_MAX_DETAIL = 500

logger = logging.getLogger("dispatcher.receiver")


class Batches:
    """What requests about batches are answered.

    Args:
        queue: where the batches are.
        registry: the jobs that may be asked for.
        intake: where new batches go: the queue, or what limits it.
    """

    def __init__(self, queue: Queue, registry: AliasRegistry, intake: Intake) -> None:
        self._queue = queue
        self._registry = registry
        self._intake = intake

    def dispatch(self, request: VerifiedRequest) -> Answer:
        """Queue the batch in the body, all of it or nothing.

        Raises:
            RequestError: the body breaks the wire format; ``invalid-batch`` where jobs in it
                cannot run here, ``too-large`` where it has more than may ever wait.
            QueueError: the queue does not take it.
        """
        batch = decode_batch(request.id, request.body)
        self._check_handlers(batch)
        ids = self._intake.put_batch(batch)
        if ids is None:
            logger.info("accepted the batch %s of %d jobs", batch.id, len(batch.jobs))
            state = "running" if batch.jobs else "succeeded"
            return Answer(202, {"id": batch.id, "ids": batch.ids, "state": state})
        logger.info("known already: the batch %s of %d jobs", batch.id, len(ids))
        state = self._state(batch)
        return Answer(200, {"id": batch.id, "ids": ids, "state": state, "duplicate": True})

    def status(self, request: VerifiedRequest) -> Answer:
        """What is known of the batch that the path names.

        Raises:
            Refusal: ``not-found``, also for jobs that were sent together but are no batch.
            QueueUnavailable: the queue could not be read, for now.
        """
        return _answer(self._queue.find_batch(request.route.id))

    def cancel(self, request: VerifiedRequest) -> Answer:
        """Cancel the batch that the path names; the answer is its status after that.

        Raises:
            Refusal: ``not-found``, also for jobs that were sent together but are no batch.
            QueueUnavailable: the queue could not be written, for now.
        """
        return _answer(self._queue.cancel_batch(request.route.id))

    def _check_handlers(self, batch: BatchMessage) -> None:
        faults = list(islice(_faults(batch, self._registry), _MAX_ERRORS))
        # A deploy may have come between: what was accepted before it is not refused now.
        if faults and not self._queue.is_taken(batch.id):
            raise Refusal(
                "jobs of the batch cannot run here, so none is queued",
                "invalid-batch",
                members={"errors": [fault.members() for fault in faults]},
            )

    def _state(self, batch: BatchMessage) -> str:
        if not batch.should_batch:
            return "running" if batch.jobs else "succeeded"
        status = self._queue.find_batch(batch.id)
        if status is None:
            raise QueueUnavailable(f"the batch {batch.id} was forgotten while it was sent again")
        return status.state


@dataclass(frozen=True, slots=True)
class _Fault:
    """Why a job of a batch cannot run, and where in the batch it stands."""

    at: int | str
    job: JobMessage
    error: DispatcherError

    def members(self) -> dict[str, object]:
        """The fault as the answer tells it."""
        detail = str(self.error)[:_MAX_DETAIL]
        return {"at": self.at, "code": self.error.code, "detail": detail}


def _faults(batch: BatchMessage, registry: AliasRegistry) -> Iterator[_Fault]:
    # Of a payload the names alone decide, and most jobs of a batch have the same.
    checked: dict[tuple[str, ...], DispatcherError | None] = {}
    jobs: Iterable[tuple[int | str, JobMessage]] = chain(
        enumerate(batch.jobs), batch.callbacks.items()
    )
    for at, job in jobs:
        kind = (job.job, *job.payload)
        if kind not in checked:
            checked[kind] = _error(job, registry)
        error = checked[kind]
        if error is not None:
            yield _Fault(at, job, error)


def _error(job: JobMessage, registry: AliasRegistry) -> DispatcherError | None:
    try:
        registry.resolve(job.job).check(job.payload)
    except (UnknownJob, InvalidPayload) as error:
        return error
    return None


def _answer(status: BatchStatus | None) -> Answer:
    if status is None:
        raise Refusal("no batch is known by this id", "not-found")
    return Answer(200, encode_batch_status(status))
