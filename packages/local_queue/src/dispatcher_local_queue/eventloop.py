"""Where the application's code runs: in one context, its coroutines in one event loop.

Handlers and hooks, plain ones and coroutines, see each other's context variables, as if one
coroutine had called them all. A process that they fork ends where it leaves them.
"""

import asyncio
import contextvars
import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

from .alarm import Alarm
from .forkstop import ForkStop

__all__ = ["AnyContextManager", "EventLoop"]

AnyContextManager = AbstractContextManager[Any] | AbstractAsyncContextManager[Any]
Returned = TypeVar("Returned")


class EventLoop:
    """An event loop that code without one waits on.

    Args:
        alarm: what ends the coroutines that run too long.
    """

    def __init__(self, alarm: Alarm) -> None:
        self._runner = asyncio.Runner()
        self._alarm = alarm
        self._context = contextvars.copy_context()
        self._fork_stop = ForkStop()

    @contextmanager
    def own_context(self) -> Iterator[None]:
        """Keep the context variables that are set in the block from what runs after it."""
        outer = self._context
        self._context = outer.copy()
        try:
            yield
        finally:
            self._context = outer

    def run(self, function: Callable[..., Returned], *arguments: object) -> Returned:
        """What the function returns."""
        with self._fork_stop:
            return self._context.run(function, *arguments)

    def wait(self, awaitable: Any) -> Any:
        """What the awaitable yields in the end."""

        async def awaited() -> object:
            with self._fork_stop:  # before the loop, which a fork shares with its parent, goes on
                return await awaitable

        try:
            with self._fork_stop, self._alarm.kept_from_loop():
                return self._runner.run(self._alarm.guard(awaited()), context=self._context)
        finally:
            if inspect.iscoroutine(awaitable):
                awaitable.close()  # the alarm may have rung before it began

    def entered(self, manager: AnyContextManager) -> AbstractContextManager[Any]:
        """The context manager as one for a plain ``with``.

        Raises:
            TypeError: it is no context manager.
        """
        if isinstance(manager, AbstractAsyncContextManager):
            return _Entered(manager.__aenter__, manager.__aexit__, self._run_and_wait)
        if isinstance(manager, AbstractContextManager):
            return _Entered(manager.__enter__, manager.__exit__, self.run)
        raise TypeError(f"the hook returned {manager!r}, which is no context manager")

    def close(self) -> None:
        """End the loop, and what still runs in it."""
        with self._fork_stop:
            self._runner.close()

    def _run_and_wait(self, function: Callable[..., Any], *arguments: object) -> Any:
        return self.wait(self.run(function, *arguments))


@dataclass(frozen=True, slots=True)
class _Entered(AbstractContextManager[Any]):
    enter: Callable[[], Any]
    leave: Callable[..., Any]
    run: Callable[..., Any]

    def __enter__(self) -> Any:
        return self.run(self.enter)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        suppressed: bool | None = self.run(self.leave, kind, error, traceback)
        return suppressed
