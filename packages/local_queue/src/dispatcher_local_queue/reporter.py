"""What a running job may tell and ask of its queue."""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime

from dispatcher_core.aliases import AliasRegistry
from dispatcher_core.errors import QueueUnavailable
from dispatcher_core.jobs import Job
from dispatcher_core.names import derived_id
from dispatcher_core.status import BatchStatus
from dispatcher_core.wire import JobMessage

from .alarm import Alarm
from .claims import Claim, Claims

__all__ = ["Reporter"]

logger = logging.getLogger("dispatcher.worker")


class Reporter:
    """The link between one run of a job and its queue.

    Args:
        claims: the worker's side of the queue.
        claim: the run.
        registry: the jobs that may run.
        alarm: rings when the job has run too long, but not into what is done here.
    """

    def __init__(
        self, claims: Claims, claim: Claim, registry: AliasRegistry, alarm: Alarm
    ) -> None:
        self._claims = claims
        self._undisturbed = alarm.postponed
        self._claim = claim
        self._registry = registry
        self._added = 0

    def report_progress(self, done: int, total: int) -> None:
        """Keep the progress of the job; it is no reason to fail that it cannot be kept."""
        try:
            self._undisturbed(self._claims.report_progress, self._claim, done, total)
        except QueueUnavailable as error:
            logger.warning("progress was not kept: %s", error)

    def cancel_requested(self) -> bool:
        """Whether the job was asked to stop."""
        return self._undisturbed(self._claims.cancel_requested, self._claim)

    def batch(self) -> BatchStatus | None:
        """The batch of the job as it is now, None without one."""
        return self._undisturbed(self._claims.batch, self._claim)

    def add_to_batch(self, jobs: Sequence[Job]) -> tuple[str, ...]:
        """Add jobs to the batch of the job.

        Returns:
            Their ids, made from this job's id and their order: what another attempt adds
            again is known already.

        Raises:
            BatchClosed: the job has no batch, or the batch takes no more.
            UnknownJob: a name that nothing is registered for here.
            InvalidPayload: a payload that does not fit its handler.
        """
        for job in jobs:
            self._registry.resolve(job.name).check(job.payload)
        now = datetime.now(UTC)
        messages = [
            self._message(job, position, now) for position, job in enumerate(jobs, self._added)
        ]
        self._undisturbed(self._claims.add_to_batch, self._claim, messages)
        self._added += len(messages)
        return tuple(message.id for message in messages)

    def _message(self, job: Job, position: int, now: datetime) -> JobMessage:
        return JobMessage(
            id=derived_id([self._claim.id, str(position)]),
            job=job.name,
            payload=dict(job.payload),
            queue=job.queue or self._claim.queue,
            delay=job.delay_seconds(now),
            priority=job.priority,
            trace=None,
        )
