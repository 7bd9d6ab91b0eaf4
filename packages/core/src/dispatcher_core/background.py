"""Blocking calls for programs that run an event loop."""

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

__all__ = ["in_thread", "sleep", "without_blocking"]

Parameters = ParamSpec("Parameters")
Answer = TypeVar("Answer")
Owner = TypeVar("Owner")


async def in_thread(
    call: Callable[Parameters, Answer], /, *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Answer:
    """What the call returns, run in a thread so that the event loop goes on."""
    answer: Answer = await _asyncio().to_thread(call, *args, **kwargs)
    return answer


def without_blocking(
    method: Callable[Concatenate[Owner, Parameters], Answer],
) -> Callable[Concatenate[Owner, Parameters], Coroutine[Any, Any, Answer]]:
    """The method as a coroutine function, its name prefixed with ``a``.

    It takes the same arguments, and calls what bears the method's name in the object at hand.
    """
    name = method.__name__

    @wraps(method)
    async def twin(owner: Owner, /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Answer:
        bound: Callable[Parameters, Answer] = getattr(owner, name)
        return await in_thread(bound, *args, **kwargs)

    twin.__name__ = f"a{name}"
    twin.__qualname__ = method.__qualname__.removesuffix(name) + twin.__name__
    twin.__doc__ = f"Like :meth:`{name}`, without blocking the event loop."
    return twin


async def sleep(seconds: float) -> None:
    """Let the event loop go on for so many seconds."""
    await _asyncio().sleep(seconds)


def _asyncio() -> Any:
    import asyncio  # lazy: most programs run no event loop and need not load it

    return asyncio
