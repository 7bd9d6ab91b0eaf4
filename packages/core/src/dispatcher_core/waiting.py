"""Waiting for a job to end."""

import logging
from collections.abc import Callable

from .answers import RETRYABLE
from .errors import DeliveryError, InvalidJob, SendFailed, WaitTimeout
from .status import JobStatus

__all__ = ["Waiting"]

_FIRST_PAUSE = 0.02
_MOST_PAUSE = 1.0
_GROWTH = 1.5
# However little time is left, a question needs some to be answered.
_LEAST = 0.5

logger = logging.getLogger("dispatcher")


class Waiting:
    """Looks at a job now and then, until it ended or the time is up.

    Args:
        id: the job's id.
        timeout: seconds to wait at most, None for as long as it takes.
        ask: asks for the job's status, within so many seconds or (None) the usual deadline.
        workers: how many workers are alive, within so many seconds; None where nobody knows.
        monotonic: seconds since some moment.

    Raises:
        InvalidJob: the timeout is negative, or no number.
    """

    def __init__(
        self,
        id: str,
        timeout: float | None,
        *,
        ask: Callable[[float | None], JobStatus],
        workers: Callable[[float], int | None],
        monotonic: Callable[[], float],
    ) -> None:
        if timeout is not None and not (isinstance(timeout, int | float) and timeout >= 0):
            raise InvalidJob(f"timeout={timeout!r} must be seconds, at least 0, or None")
        self._id = id
        self._timeout = timeout
        self._ask = ask
        self._workers = workers
        self._monotonic = monotonic
        self._started = monotonic()
        self._next_pause = _FIRST_PAUSE
        self._status: JobStatus | None = None
        self._trouble: DeliveryError | None = None

    def look(self) -> JobStatus | None:
        """The job's status once it ended, None where it goes on.

        Raises:
            WaitTimeout: it goes on, and the time is up.
            NotFound: the backend does not know the job.
            DeliveryError: the backend refuses for good; passing trouble is logged instead.
        """
        left = self._left()
        try:
            self._status = self._ask(None if left is None else max(left, _LEAST))
        except DeliveryError as error:
            self._bear(error)
        else:
            self._trouble = None
            if self._status.finished:
                return self._status
        if self._left() == 0:
            raise WaitTimeout(self._message(), self._status)
        return None

    def pause(self) -> float:
        """Seconds until the next look: longer each time, never past the end."""
        left = self._left()
        pause = self._next_pause
        self._next_pause = min(_MOST_PAUSE, pause * _GROWTH)
        return pause if left is None else min(pause, left)

    def _left(self) -> float | None:
        if self._timeout is None:
            return None
        return max(0.0, self._started + self._timeout - self._monotonic())

    def _bear(self, error: DeliveryError) -> None:
        passing = error.retryable if isinstance(error, SendFailed) else error.status in RETRYABLE
        if not passing:
            raise error
        if self._trouble is None:
            logger.warning("waiting for job %s goes on in spite of: %s", self._id, error)
        self._trouble = error

    def _message(self) -> str:
        start = f"the job {self._id} did not end within {self._timeout:g} s"
        if self._status is None:
            return f"{start}: the backend gave no answer ({self._trouble})"
        if self._trouble is not None:
            return f"{start}: {self._status.state} when the backend last answered"
        return f"{start}: still {self._status.state}{self._detail(self._status)}"

    def _detail(self, status: JobStatus) -> str:
        if status.state == "running":
            progress = status.progress
            return "" if progress is None else f", {progress.percent} % done"
        return ", no worker alive" if self._workers(_LEAST) == 0 else ""
