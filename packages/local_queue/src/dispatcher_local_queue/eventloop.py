"""The one event loop of a worker process, for coroutine handlers and asynchronous hooks."""

import asyncio
import contextvars
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from .alarm import Alarm

__all__ = ["AnyContextManager", "EventLoop"]

AnyContextManager = AbstractContextManager[Any] | AbstractAsyncContextManager[Any]


class EventLoop:
    """An event loop that code without one waits on.

    Args:
        alarm: what ends the coroutines that run too long.
    """

    def __init__(self, alarm: Alarm) -> None:
        self._runner = asyncio.Runner()
        self._alarm = alarm

    def wait(self, awaitable: Any) -> Any:
        """What the awaitable yields in the end. The context variables that it sets stay set."""

        async def awaited() -> object:
            return await awaitable

        context = contextvars.copy_context()
        try:
            return self._runner.run(self._alarm.guard(awaited()), context=context)
        finally:
            _adopt(context)

    def entered(self, manager: AnyContextManager) -> AbstractContextManager[Any]:
        """The context manager as one for a plain ``with``.

        Raises:
            TypeError: it is no context manager.
        """
        if isinstance(manager, AbstractAsyncContextManager):
            return _Awaited(manager, self)
        if not isinstance(manager, AbstractContextManager):
            raise TypeError(f"the hook returned {manager!r}, which is no context manager")
        return manager

    def close(self) -> None:
        """End the loop, and what still runs in it."""
        self._runner.close()


@dataclass(frozen=True, slots=True)
class _Awaited(AbstractContextManager[Any]):
    manager: AbstractAsyncContextManager[Any]
    loop: EventLoop

    def __enter__(self) -> Any:
        return self.loop.wait(self.manager.__aenter__())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        suppressed: bool | None = self.loop.wait(self.manager.__aexit__(kind, error, traceback))
        return suppressed


def _adopt(context: contextvars.Context) -> None:
    unset = object()
    for variable, value in context.items():
        if variable.get(unset) is not value:
            variable.set(value)
