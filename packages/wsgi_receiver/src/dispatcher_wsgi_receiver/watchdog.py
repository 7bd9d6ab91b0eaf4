"""Deadlines for what a client sends, kept by one thread for all connections.

The timeout of a socket counts from the last byte, so a client that sends one now and then is
never late. Here somebody else looks at the clock, and shuts the side that is read from: the
read ends, as if the client had closed, and the answer can still be written.
"""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from .forks import after_fork

__all__ = ["Deadline", "Watchdog"]


@dataclass(slots=True)
class Deadline:
    """Until when a client must have sent something.

    Attributes:
        at: the moment, on the monotonic clock.
        passed: whether the connection was shut because of it.
    """

    at: float
    passed: bool = False

    def extend(self, seconds: float) -> None:
        """Move it, as only the thread may that reads: the watchdog looks at it anew."""
        self.at += seconds


class Watchdog:
    """Shuts the read side of connections whose deadline passes. Many threads may use it.

    Its thread starts with a first deadline and ends when it wakes and finds none. Deadlines
    that are met, which are nearly all, wake it once at most, or once for each that is extended.
    """

    def __init__(self) -> None:
        self._start_afresh()
        after_fork(self._start_afresh)

    def _start_afresh(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._deadlines: dict[socket.socket, Deadline] = {}
        self._wakes: float | None = None  # None: there is no thread

    @contextmanager
    def limit(self, connection: socket.socket | None, seconds: float) -> Iterator[Deadline]:
        """Around what must be read within so many seconds."""
        deadline = self.start(connection, seconds)
        try:
            yield deadline
        finally:
            self.stop(connection)

    def start(self, connection: socket.socket | None, seconds: float) -> Deadline:
        """Watch a connection, of which this is the one deadline from now on.

        Args:
            connection: the one to shut; None where the server does not give it away, and then
                nothing happens at the deadline.
            seconds: from now.

        Raises:
            RuntimeError: the thread cannot be started.
        """
        deadline = Deadline(time.monotonic() + seconds)
        if connection is None:
            return deadline
        with self._changed:
            if self._wakes is None:
                threading.Thread(target=self._run, name="dispatcher-watchdog", daemon=True).start()
                self._wakes = deadline.at
            elif deadline.at < self._wakes:
                self._wakes = deadline.at
                self._changed.notify()
            self._deadlines[connection] = deadline
        return deadline

    def stop(self, connection: socket.socket | None) -> None:
        """Leave a connection alone from now on."""
        if connection is not None:
            with self._changed:
                self._deadlines.pop(connection, None)

    def _run(self) -> None:
        with self._changed:
            while self._wakes is not None:
                self._changed.wait(max(0, self._wakes - time.monotonic()))
                self._end_late_reads(time.monotonic())
                times = (deadline.at for deadline in self._deadlines.values())
                self._wakes = min(times, default=None)

    def _end_late_reads(self, now: float) -> None:
        # Under the lock: once stop() returns, a connection may serve another request.
        for connection, deadline in list(self._deadlines.items()):
            if deadline.at <= now:
                del self._deadlines[connection]
                deadline.passed = True
                _shut(connection)


def _shut(connection: socket.socket) -> None:
    # SSLSocket.shutdown() would go on in plain text; that of the base class does not.
    with suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RD)
