"""The standard streams, so that whatever they are bound to disturbs no command."""

import io
import os
import sys
from contextlib import suppress
from typing import TextIO, cast

__all__ = ["flush", "give_up", "prepare_streams"]


def prepare_streams() -> None:
    """Put the null device in place of closed streams, and escape what an encoding lacks."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, _null(mode))
        elif isinstance(stream, io.TextIOWrapper):
            with suppress(ValueError):  # closed, or read from already: it stays as it is
                stream.reconfigure(errors="backslashreplace")


def flush(stream: TextIO) -> None:
    """Write what is left to be written.

    Raises:
        OSError: it cannot be.
    """
    if not stream.closed:
        stream.flush()


def give_up(stream: TextIO) -> None:
    """Leave what cannot be written, of which Python would complain when it flushes at the end."""
    try:
        flush(stream)
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def _null(mode: str) -> TextIO:
    """The null device in the place of the lowest descriptor that is closed.

    Else that number would go to the next file that is opened, a queue's perhaps, and so to the
    processes that we start.
    """
    descriptor = os.open(os.devnull, os.O_RDWR)
    os.set_inheritable(descriptor, True)
    return cast(TextIO, os.fdopen(descriptor, mode, errors="backslashreplace", closefd=False))
