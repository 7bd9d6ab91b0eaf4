"""The body of a request: what kind, how long, and the bytes."""

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol
from wsgiref.types import WSGIEnvironment

from .problems import Refusal
from .watchdog import Deadline

__all__ = [
    "BIG_BODY",
    "BODY_TIMEOUT",
    "PIECE",
    "SOCKET_KEY",
    "BigBodies",
    "ByteStream",
    "announces_body",
    "body_length",
    "check_media_type",
    "check_no_body",
    "client_socket",
    "kept_socket",
    "late",
    "read_body",
]

BIG_BODY = 1024 * 1024
"""Bytes; of longer bodies few are read on at once."""

BODY_TIMEOUT = 10.0
"""Seconds in which any body must have come, besides what comes of it adds."""

SOCKET_KEY = "dispatcher.socket"
"""Where our own server puts the connection into the environment of a request."""

PIECE = 256 * 1024
"""Bytes that add a second to the time of a body, once they have come."""

_DIGITS = re.compile(r"[0-9]+", re.ASCII)
# RFC 9110, section 8.6: prepare for lengths that no integer type holds.
_MAX_DIGITS = 18


class ByteStream(Protocol):
    """What is needed of ``wsgi.input``."""

    def read(self, size: int, /) -> bytes:
        """Up to so many bytes; none at the end."""


class BigBodies:
    """Lets few big bodies be read at once: until it is read, nobody knows who sent one.

    It is asked once a body has shown to be big: to announce one costs nothing.

    Args:
        count: how many.
    """

    def __init__(self, count: int = 2) -> None:
        self._free = threading.Semaphore(count)

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Around the reading of what is over :data:`BIG_BODY`.

        Raises:
            Refusal: ``unavailable``: as many as may be are being read.
        """
        if not self._free.acquire(blocking=False):
            raise Refusal(
                f"as many bodies over {BIG_BODY} bytes as may be are read: try again later",
                "unavailable",
            )
        try:
            yield
        finally:
            self._free.release()


def check_media_type(environ: WSGIEnvironment) -> None:
    """Check that the body is said to be plain JSON in UTF-8.

    Raises:
        Refusal: ``unsupported-media-type``.
    """
    if "HTTP_CONTENT_ENCODING" in environ:
        raise Refusal("send the body without a Content-Encoding", "unsupported-media-type")
    media_type, *parameters = environ.get("CONTENT_TYPE", "").split(";")
    if media_type.strip().lower() != "application/json":
        raise Refusal("send Content-Type: application/json", "unsupported-media-type")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip(' \t"').lower() != "utf-8":
            raise Refusal("send the JSON in UTF-8", "unsupported-media-type")


def body_length(environ: WSGIEnvironment, limit: int) -> int:
    """The length of the body, in bytes.

    Args:
        environ: the request.
        limit: the most bytes that are taken.

    Raises:
        Refusal: ``length-required``, ``malformed`` or ``too-large``.
    """
    length = _declared_length(environ)
    if length is None:
        raise Refusal("send a Content-Length", "length-required")
    if length > limit:
        raise Refusal(f"the body may have at most {limit} bytes", "too-large")
    return length


def check_no_body(environ: WSGIEnvironment) -> None:
    """Check that the request has no body.

    Raises:
        Refusal: ``malformed``, or ``length-required`` for a Transfer-Encoding.
    """
    if _declared_length(environ):
        raise Refusal("send no body with this method", "malformed")


def announces_body(environ: WSGIEnvironment) -> bool:
    """Whether the client says that there is a body, in whatever form."""
    length = environ.get("CONTENT_LENGTH") or "0"
    return length != "0" or "HTTP_TRANSFER_ENCODING" in environ


def client_socket(environ: WSGIEnvironment) -> socket.socket | None:
    """The connection of the request, where the server gives it away.

    Our own server and gunicorn do. No client can name one: its header fields begin with
    ``HTTP_`` here, and are text.
    """
    connection = environ.get(SOCKET_KEY) or environ.get("gunicorn.socket")
    return connection if isinstance(connection, socket.socket) else None


def kept_socket(environ: WSGIEnvironment) -> socket.socket | None:
    """The same, where the server may keep it for another request; our own server does not."""
    return None if SOCKET_KEY in environ else client_socket(environ)


def read_body(stream: ByteStream, length: int, deadline: Deadline, big_bodies: BigBodies) -> bytes:
    """The body, which has exactly that many bytes.

    Args:
        stream: gives the bytes.
        length: how many.
        deadline: is watched by somebody else, and ends the stream when it passes. What comes
            before that extends it, by a second for each :data:`PIECE`.
        big_bodies: lets few bodies go on after :data:`BIG_BODY`.

    Raises:
        Refusal: ``timeout``: it did not come in time; ``malformed``: it ends before;
            ``unavailable``: too many big ones are read.
    """
    pieces = list(_pieces(stream, min(length, BIG_BODY), deadline))
    if length > BIG_BODY:
        with big_bodies.slot():
            pieces.extend(_pieces(stream, length - BIG_BODY, deadline))
    return b"".join(pieces)


def _pieces(stream: ByteStream, length: int, deadline: Deadline) -> Iterator[bytes]:
    missing = length
    while missing:
        piece = _read(stream, min(missing, PIECE))
        missing -= len(piece)
        if missing and deadline.passed:
            raise late()
        if not piece:
            raise Refusal("the body is shorter than its Content-Length", "malformed")
        deadline.extend(len(piece) / PIECE)
        yield piece


def _declared_length(environ: WSGIEnvironment) -> int | None:
    # With both headers, two programs on the way may see two different bodies.
    if "HTTP_TRANSFER_ENCODING" in environ:
        raise Refusal("send a Content-Length and no Transfer-Encoding", "length-required")
    text = environ.get("CONTENT_LENGTH", "")
    if not text:
        return None
    if not _DIGITS.fullmatch(text):
        raise Refusal("the Content-Length is not a number", "malformed")
    if len(text) > _MAX_DIGITS:
        raise Refusal("the Content-Length is beyond any limit", "too-large")
    return int(text)


def _read(stream: ByteStream, size: int) -> bytes:
    try:
        return stream.read(size)
    except TimeoutError:
        raise late() from None
    except OSError:
        # The connection broke: this body ends here.
        return b""


def late() -> Refusal:
    """What a body is refused with whose deadline has passed."""
    return Refusal("the body did not come in time: send it at once", "timeout")
