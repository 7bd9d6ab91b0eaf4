"""Ends what runs too long: raises ``JobTimeout`` in the process's main thread.

A coroutine that waits gets it where it waits. What ignores it is killed from outside,
:data:`GRACE` seconds later.
"""

import asyncio
import signal
import types
from collections.abc import Coroutine, Generator, Iterator
from contextlib import contextmanager
from typing import Any

from dispatcher_core.outcomes import JobTimeout

__all__ = ["GRACE", "Alarm"]

GRACE = 5.0


class _TimeoutWhileWaiting(JobTimeout, asyncio.CancelledError):
    """What a waiting coroutine gets: asyncio's own tools clean up as after a cancellation."""


class Alarm:
    """The one alarm of a process. Use it in the main thread."""

    def __init__(self) -> None:
        self._armed = False
        self._rang = False
        self._task: asyncio.Task[Any] | None = None
        signal.signal(signal.SIGALRM, self._ring)

    @contextmanager
    def armed(self, seconds: float) -> Iterator[None]:
        """Raise ``JobTimeout`` once, unless the block ends within so many seconds."""
        self._armed, self._rang = True, False
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            yield
        finally:
            self._armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)

    async def guard(self, coroutine: Coroutine[Any, Any, object]) -> object:
        """Await the coroutine as one that the alarm can reach while it waits."""
        self._task = asyncio.current_task()
        try:
            return await self._relay(coroutine)
        except _TimeoutWhileWaiting as error:
            raise JobTimeout().with_traceback(error.__traceback__) from None
        finally:
            self._task = None

    def _ring(self, *_: object) -> None:
        if not self._armed:
            return
        self._armed, self._rang = False, True
        if self._task is None or self._task is asyncio.current_task(self._task.get_loop()):
            raise JobTimeout
        # The event loop waits, or runs another task: raising here would tear that apart.
        self._task.get_loop().call_soon_threadsafe(self._task.cancel)

    @types.coroutine
    def _relay(self, coroutine: Coroutine[Any, Any, object]) -> Generator[Any, Any, object]:
        """Drive the coroutine; a cancellation by the alarm becomes ``JobTimeout`` in it."""
        value: object = None
        error: BaseException | None = None
        while True:
            try:
                waits_for = coroutine.send(value) if error is None else coroutine.throw(error)
            except StopIteration as stop:
                return stop.value
            value = error = None
            try:
                value = yield waits_for
            except asyncio.CancelledError as cancelled:
                error = _TimeoutWhileWaiting() if self._rang else cancelled
            except BaseException as raised:  # noqa: BLE001 - it belongs to the coroutine
                error = raised
