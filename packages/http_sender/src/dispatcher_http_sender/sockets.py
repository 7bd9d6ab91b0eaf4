"""Finding a host, connecting to it and reading from it, each within a deadline."""

import io
import socket
from concurrent.futures import Future
from threading import Thread
from typing import Any

from .deadline import Deadline

__all__ = ["DeadlineReader", "connect", "resolve"]

Address = tuple[Any, ...]
"""What :func:`socket.getaddrinfo` lists: family, type, protocol, name and address."""


def connect(host: str, port: int, deadline: Deadline) -> socket.socket:
    """A socket connected to the first of the host's addresses that accepts.

    Raises:
        OSError: none does; the error of the last one. A TimeoutError past the deadline.
    """
    addresses = resolve(host, port, deadline)
    failure = OSError(f"{host} has no address")
    for tried, address in enumerate(addresses):
        try:
            # One address that swallows packets must leave time for those after it.
            return _connect_to(address, deadline.remaining() / (len(addresses) - tried))
        except OSError as error:
            failure = error
    raise failure


def resolve(host: str, port: int, deadline: Deadline) -> list[Address]:
    """The addresses of a host, in the order in which to try them.

    A look-up cannot be interrupted, so one that needs the resolver runs in a thread of its
    own, which is left behind when the deadline passes: it ends with the resolver's own limit.

    Raises:
        OSError: there are none. A TimeoutError past the deadline.
    """
    try:
        return _look_up(host, port, socket.AI_NUMERICHOST)
    except socket.gaierror:
        pass  # A name, not an address.
    found: Future[list[Address]] = Future()
    Thread(target=_settle, args=(found, host, port), daemon=True).start()
    return found.result(deadline.remaining())


class DeadlineReader(io.RawIOBase):
    """Reads a socket, giving each read just the time that is left.

    Args:
        raw: the socket's own stream, which keeps it open.
        sock: the socket.
        deadline: when reading must have ended.

    Attributes:
        ended: whether the other side has closed, and all it sent was read.
    """

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, deadline: Deadline) -> None:
        super().__init__()
        self._raw = raw
        self._sock = sock
        self._deadline = deadline
        self.ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Fill the buffer as far as one read goes.

        Raises:
            OSError: the connection broke. A TimeoutError past the deadline.
        """
        self._sock.settimeout(self._deadline.remaining())
        count = self._raw.readinto(buffer)
        self.ended = count == 0
        return count

    def close(self) -> None:
        super().close()
        self._raw.close()


def _connect_to(address: Address, seconds: float) -> socket.socket:
    family, kind, protocol, _, location = address
    sock = socket.socket(family, kind, protocol)
    try:
        sock.settimeout(seconds)
        sock.connect(location)
    except BaseException:
        sock.close()
        raise
    return sock


def _settle(found: Future[list[Address]], host: str, port: int) -> None:
    try:
        found.set_result(_look_up(host, port))
    except (OSError, ValueError) as error:
        found.set_exception(error)


def _look_up(host: str, port: int, flags: int = 0) -> list[Address]:
    return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags))
