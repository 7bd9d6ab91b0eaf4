"""Ends a process that the application has forked where it leaves the application's code.

It would go on as a second worker otherwise: with its parent's job, whose end it would write, and
with its parent's name, under which it would claim more.
"""

import logging
import os
import sys
from types import TracebackType
from typing import NoReturn

from dispatcher_core.errors import JobLoadError

__all__ = ["ForkStop"]

logger = logging.getLogger("dispatcher.worker")


class ForkStop:
    """A block that only the process leaves that made this; enter it as often as you like.

    A fork that comes to its end ends with the exit status that Python would give it: what
    ``SystemExit`` says, 1 after another exception, which is logged, else 0. Its standard
    streams are flushed. As in the forks of ``multiprocessing``, nothing of what its parent has
    begun is done a second time: no ``finally`` outside of the block, no exit handler.
    """

    def __init__(self) -> None:
        self._pid = os.getpid()

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if os.getpid() != self._pid:
            _end(error)


def _end(error: BaseException | None) -> NoReturn:
    status = 1
    try:
        status = _status(error)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)  # whatever came between: a closed stream, a signal, an odd exception


def _status(error: BaseException | None) -> int:
    if isinstance(error, JobLoadError):
        error = error.__cause__ or error  # what the module raised
    if error is None:
        return 0
    if not isinstance(error, SystemExit):
        logger.error("a process that was forked here has failed", exc_info=error)
        return 1
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    print(error.code, file=sys.stderr)
    return 1
