"""Waiting for a job or a batch to end."""

import logging
from collections.abc import Callable
from typing import Generic, TypeVar

from .answers import RETRYABLE
from .background import in_thread
from .delivery import Clock
from .describing import shown
from .errors import DeliveryError, InvalidJob, SendFailed, WaitTimeout
from .status import BatchStatus, JobStatus

__all__ = ["Waiting"]

_FIRST_PAUSE = 0.02
_MOST_PAUSE = 1.0
_GROWTH = 1.5
# However little time is left, a question needs some to be answered: the last one, which comes
# when the time is up, tells how it ended in the last second.
_LEAST = 0.5
_LONGEST = 1e9  # seconds, some 30 years; clocks and sockets take no endless numbers

Status = TypeVar("Status", JobStatus, BatchStatus)

logger = logging.getLogger("dispatcher")


class Waiting(Generic[Status]):
    """Looks at a job or batch now and then, until it ended or the time is up.

    Args:
        what: which one, for messages, such as ``job abc``.
        timeout: seconds to wait at most, None for as long as it takes. Where a backend leaves
            questions unanswered it may take a second more.
        ask: asks for its status, within so many seconds or (None) the usual deadline.
        workers: how many workers are alive, within so many seconds; None where nobody knows.
        clock: the time, and pauses.

    Raises:
        InvalidJob: the timeout is negative, or no number.
    """

    def __init__(
        self,
        what: str,
        timeout: float | None,
        ask: Callable[[float | None], Status],
        workers: Callable[[float], int | None],
        clock: Clock,
    ) -> None:
        if timeout is not None and not (isinstance(timeout, int | float) and timeout >= 0):
            raise InvalidJob(f"timeout={shown(timeout)} must be seconds, at least 0, or None")
        self._what = what
        self._timeout = None if timeout is None else min(timeout, _LONGEST)
        self._ask: Callable[[float | None], Status] = ask
        self._workers = workers
        self._clock = clock
        self._started = clock.monotonic()
        self._next_pause = _FIRST_PAUSE
        self._status: Status | None = None
        self._trouble: DeliveryError | None = None

    def end(self) -> Status:
        """The status once it ended.

        Raises:
            WaitTimeout: it goes on, and the time is up.
            NotFound: the backend does not know it.
            DeliveryError: the backend refuses for good; passing trouble is logged instead.
        """
        while (status := self._look()) is None:
            self._clock.sleep(self._pause())
        return status

    async def end_async(self) -> Status:
        """Like :meth:`end`, without blocking the event loop."""
        while (status := await in_thread(self._look)) is None:
            await self._clock.sleep_async(self._pause())
        return status

    def _look(self) -> Status | None:
        """The status where it ended, None where it goes on."""
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

    def _pause(self) -> float:
        """Seconds until the next look: longer each time, never past the end."""
        left = self._left()
        pause = self._next_pause
        self._next_pause = min(_MOST_PAUSE, pause * _GROWTH)
        return pause if left is None else min(pause, left)

    def _left(self) -> float | None:
        if self._timeout is None:
            return None
        return max(0.0, self._started + self._timeout - self._clock.monotonic())

    def _bear(self, error: DeliveryError) -> None:
        passing = error.retryable if isinstance(error, SendFailed) else error.status in RETRYABLE
        if not passing:
            raise error
        if self._trouble is None:
            logger.warning("waiting for %s goes on in spite of: %s", self._what, error)
        self._trouble = error

    def _message(self) -> str:
        start = f"the {self._what} did not end within {self._timeout:g} s"
        if self._status is None:
            return f"{start}: the backend gave no answer ({self._trouble})"
        if self._trouble is not None:
            return f"{start}: {self._status.state} when the backend last answered"
        return f"{start}: still {self._status.state}{self._detail(self._status)}"

    def _detail(self, status: Status) -> str:
        """What is known besides the state: a job that runs has a worker, any other may not."""
        is_running = status.state == "running"
        told = f", {status.progress.percent} % done" if is_running and status.progress else ""
        has_worker = is_running and isinstance(status, JobStatus)
        return told if has_worker or self._workers(_LEAST) != 0 else f"{told}, no worker alive"
