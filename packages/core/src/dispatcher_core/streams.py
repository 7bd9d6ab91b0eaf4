"""The standard streams, so that whatever they are bound to disturbs no command."""

import io
import os
import sys
from typing import Any, TextIO, cast

from .errors import DispatcherError

__all__ = ["flush", "prepare_streams"]


def prepare_streams() -> None:
    """Put the null device in place of closed streams, and escape what an encoding lacks.

    From then on output that cannot be written is a ``DispatcherError``, unless it is for want
    of a reader (``BrokenPipeError``).
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, _null(mode))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if sys.stdout is sys.__stdout__:
        sys.stdout = _checked(cast(io.TextIOWrapper, sys.stdout))


def flush(stream: TextIO) -> None:
    """Write what is left to be written, and give up what cannot be."""
    try:
        stream.flush()
    except (OSError, DispatcherError):
        # Python would complain once more when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class _Output(io.FileIO):
    """A file whose errors say that they are of the output, and no other file's."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise DispatcherError(
                f"cannot write the output: {error.strerror} (the work itself may be done)"
            ) from error


def _checked(stream: io.TextIOWrapper) -> TextIO:
    stream.flush()
    output: Any = _Output(stream.fileno(), "w", closefd=False)
    is_buffered = isinstance(stream.buffer, io.BufferedWriter)  # not so with PYTHONUNBUFFERED
    return io.TextIOWrapper(
        io.BufferedWriter(output) if is_buffered else output,
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _null(mode: str) -> TextIO:
    """The null device in the place of the lowest descriptor that is closed.

    Else that number would go to the next file that is opened, a queue's perhaps, and so to the
    processes that we start.
    """
    descriptor = os.open(os.devnull, os.O_RDWR)
    os.set_inheritable(descriptor, True)
    return cast(TextIO, os.fdopen(descriptor, mode, errors="backslashreplace", closefd=False))
