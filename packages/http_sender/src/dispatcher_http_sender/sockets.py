"""Finding a host and connecting to it within a deadline."""

import socket
from typing import Any

from .background import finish_within
from .deadline import Deadline

__all__ = ["connect", "resolve"]

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
    return finish_within(deadline, lambda: _look_up(host, port))


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


def _look_up(host: str, port: int, flags: int = 0) -> list[Address]:
    return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags))
