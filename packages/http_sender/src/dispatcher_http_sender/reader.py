"""The bytes that come from a socket, each read of them within a deadline."""

import socket
import ssl
from http.client import RemoteDisconnected
from typing import Self

from .deadline import Deadline

__all__ = ["SocketReader"]

_PIECE = 64 * 1024


class SocketReader:
    """Reads a socket for one answer after the other, as the file that http.client wants.

    Unlike a file it outlives the answers, and can tell what is left behind by one.

    Args:
        sock: what to read.
        deadline: when reading the first answer must have ended.

    Attributes:
        received: how many bytes came since the last :meth:`renew`.
    """

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock = sock
        self._buffer = bytearray()
        self.renew(deadline)

    def renew(self, deadline: Deadline) -> None:
        """Begin with another answer, which must have been read by the deadline."""
        self._deadline = deadline
        self.received = 0

    @property
    def leftover(self) -> bool:
        """Whether there are bytes that nobody has read."""
        pending = self._sock.pending() if isinstance(self._sock, ssl.SSLSocket) else 0
        return bool(self._buffer or pending)

    def readline(self, limit: int) -> bytes:
        """A line with its end, or as much of it as the limit allows.

        Raises:
            RemoteDisconnected: it was cut off.
            OSError: the connection broke. A TimeoutError past the deadline.
        """
        searched = 0
        while not (end := self._buffer.find(b"\n", searched, limit) + 1):
            searched = len(self._buffer)
            if searched >= limit:
                end = limit
                break
            if not self._receive():
                raise RemoteDisconnected("the answer was cut off")
        return self._take(end)

    def read(self, size: int) -> bytes:
        """So many bytes, fewer only where the stream ends.

        Raises:
            OSError: the connection broke. A TimeoutError past the deadline.
        """
        while len(self._buffer) < size and self._receive():
            pass
        return self._take(size)

    def makefile(self, mode: str) -> Self:
        """Itself: http.client asks a socket for its file."""
        return self

    def flush(self) -> None:
        """Nothing: there is nothing to write."""

    def close(self) -> None:
        """Nothing: the connection outlives an answer."""

    def _receive(self) -> bool:
        self._sock.settimeout(self._deadline.remaining())
        piece = self._sock.recv(_PIECE)
        self._buffer += piece
        self.received += len(piece)
        return bool(piece)

    def _take(self, size: int) -> bytes:
        piece = bytes(self._buffer[:size])
        del self._buffer[:size]
        return piece
