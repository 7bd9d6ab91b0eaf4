"""Blocking calls for programs that run an event loop."""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

__all__ = ["in_thread", "sleep"]

Parameters = ParamSpec("Parameters")
Answer = TypeVar("Answer")


async def in_thread(
    call: Callable[Parameters, Answer], /, *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Answer:
    """What the call returns, run in a thread so that the event loop goes on."""
    answer: Answer = await _asyncio().to_thread(call, *args, **kwargs)
    return answer


async def sleep(seconds: float) -> None:
    """Let the event loop go on for so many seconds."""
    await _asyncio().sleep(seconds)


def _asyncio() -> Any:
    import asyncio  # lazy: most programs run no event loop and need not load it

    return asyncio
