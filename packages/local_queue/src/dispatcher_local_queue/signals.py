"""Signals that wake a loop, for the one program whose main thread waits in ``select``."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["Signals"]

_REPEAT_IGNORED = 1.0  # seconds: a terminal and a service manager may both pass one on


class Signals:
    """INT and TERM as requests to stop; CHLD as a reason to look.

    Attributes:
        descriptor: can be read when a signal came.
    """

    def __init__(self) -> None:
        self.descriptor, self._write_end = os.pipe()
        os.set_blocking(self.descriptor, False)
        os.set_blocking(self._write_end, False)
        self._requests: list[float] = []

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Catch the signals for as long as the block runs, in the main thread."""
        handlers = {
            signal.SIGINT: self._request,
            signal.SIGTERM: self._request,
            signal.SIGCHLD: lambda *_: None,
        }
        before = {number: signal.signal(number, each) for number, each in handlers.items()}
        wakeup = signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)

    def clear(self) -> None:
        """Make the descriptor wait for the next signal."""
        with suppress(BlockingIOError):
            os.read(self.descriptor, 4096)

    def requests(self) -> int:
        """How many requests to stop have come so far; quick repetitions count once."""
        return len(self._requests)

    def close(self) -> None:
        """Close the pipe."""
        os.close(self.descriptor)
        os.close(self._write_end)

    def _request(self, *_: object) -> None:
        now = time.monotonic()
        if not self._requests or now - self._requests[-1] >= _REPEAT_IGNORED:
            self._requests.append(now)
