"""When the demo has to stop: at a signal, or when its time is up."""

import signal
import time
from collections.abc import Callable
from typing import Any, Self, TypeVar

from ..errors import DispatcherError

__all__ = ["Interrupted", "Limits"]

Found = TypeVar("Found")

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PAUSE = 0.02


class Interrupted(Exception):
    """A signal asked the demo to stop.

    Attributes:
        signal: the signal.
    """

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(f"stopped by {number.name}")
        self.signal = number


class Limits:
    """Catches INT, TERM and HUP as long as the block runs, in the main thread.

    Signals are noted, and raised at the next ``check()`` only, so that none comes between
    starting a process and knowing it, or disturbs the tidying up.

    Args:
        seconds: that the demo may take, from now on.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds
        self._noted: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        # What is ignored, as under nohup, stays so.
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self, what: str) -> None:
        """Go on only where nothing speaks against it.

        Args:
            what: what is being done, for the message.

        Raises:
            Interrupted: a signal came.
            DispatcherError: the time is up.
        """
        if self._noted is not None:
            raise Interrupted(self._noted)
        if time.monotonic() >= self._end:
            raise DispatcherError(f"the demo's {self._seconds:g} s are up while {what}")

    def until(self, find: Callable[[], Found | None], what: str) -> Found:
        """What ``find`` returns, as soon as that is not None.

        Raises:
            Interrupted: a signal came.
            DispatcherError: the time is up.
        """
        self.check(what)
        while (found := find()) is None:
            time.sleep(_PAUSE)
            self.check(what)
        return found

    def _note(self, number: int, _: object) -> None:
        self._noted = signal.Signals(number)
