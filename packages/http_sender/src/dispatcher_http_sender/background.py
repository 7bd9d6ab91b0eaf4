"""Work that cannot be interrupted, waited for no longer than a deadline."""

from collections.abc import Callable
from concurrent.futures import Future
from contextvars import Context, copy_context
from threading import Thread
from typing import TypeVar

from .deadline import Deadline

__all__ = ["finish_within"]

T = TypeVar("T")


def finish_within(deadline: Deadline, work: Callable[[], T]) -> T:
    """What the work returns or raises.

    It runs in a thread of its own, which is left behind when the deadline passes, and must
    come to an end by itself.

    Raises:
        OSError: no thread could be started. A TimeoutError past the deadline; where it has
            passed before, nothing is begun.
    """
    deadline.remaining()
    done: Future[T] = Future()
    thread = Thread(target=_settle, args=(done, copy_context(), work), daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise OSError(f"no thread could be started: {error}") from error
    return done.result(deadline.remaining())


def _settle(done: Future[T], context: Context, work: Callable[[], T]) -> None:
    try:
        done.set_result(context.run(work))
    except BaseException as error:  # noqa: BLE001 - whoever waits gets it
        done.set_exception(error)
