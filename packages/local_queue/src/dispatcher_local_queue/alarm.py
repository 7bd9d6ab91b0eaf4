"""Ends what runs too long: raises ``JobTimeout`` in the process's main thread.

A coroutine that waits gets it where it waits. What ignores it is killed from outside,
:data:`GRACE` seconds later.
"""

import asyncio
import inspect
import signal
import types
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from typing import Any, ParamSpec, TypeVar

from dispatcher_core.outcomes import JobTimeout

__all__ = ["GRACE", "Alarm"]

GRACE = 5.0

P = ParamSpec("P")
T = TypeVar("T")


class _TimeoutWhileWaiting(JobTimeout, asyncio.CancelledError):
    """What a waiting coroutine gets: asyncio's own tools clean up as after a cancellation."""


class Alarm:
    """The one alarm of a process. Use it in the main thread."""

    def __init__(self) -> None:
        self._armed = False
        self._rang = False
        self._in_loop = False
        self._pending = False
        self._postponing = False
        self._late = False
        self._task: asyncio.Task[Any] | None = None
        self._guarded: Coroutine[Any, Any, object] | None = None
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

    @property
    def rang(self) -> bool:
        """Whether the time was over before the last block ended, whatever became of that."""
        return self._rang

    @contextmanager
    def kept_from_loop(self) -> Iterator[None]:
        """While the block runs an event loop, raise nothing but in what is guarded in it.

        An event loop that is torn apart may wait forever for what it has lost.
        """
        self._in_loop = True
        try:
            yield
        finally:
            self._in_loop = False
            pending, self._pending = self._pending, False
        if pending:
            raise JobTimeout

    def postponed(self, function: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
        """What the function returns; an alarm that rings meanwhile strikes once it has.

        For what must not be torn apart: a transaction that nobody ends would stop everybody.
        """
        if current_thread() is not main_thread():  # the alarm rings in that one only
            return function(*arguments, **options)
        self._postponing = True
        try:
            return function(*arguments, **options)
        finally:
            self._postponing = False
            late, self._late = self._late, False
            if late:
                self._strike()

    async def guard(self, coroutine: Coroutine[Any, Any, object]) -> object:
        """Await the coroutine as one that the alarm can reach while it waits."""
        self._task, self._guarded = asyncio.current_task(), coroutine
        try:
            if self._pending:
                coroutine.close()
                raise JobTimeout
            return await self._relay(coroutine)
        except _TimeoutWhileWaiting as error:
            raise JobTimeout().with_traceback(error.__traceback__) from None
        finally:
            self._task = self._guarded = None

    def _ring(self, *_: object) -> None:
        if not self._armed:
            return
        self._armed, self._rang = False, True
        if self._postponing:
            self._late = True
        else:
            self._strike()

    def _strike(self) -> None:
        if not self._in_loop:
            raise JobTimeout
        if self._guarded and inspect.getcoroutinestate(self._guarded) == inspect.CORO_RUNNING:
            raise JobTimeout
        self._pending = True
        if self._task is not None:
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
                error = _TimeoutWhileWaiting() if self._pending else cancelled
                self._pending = False
            except BaseException as raised:  # noqa: BLE001 - it belongs to the coroutine
                error = raised
