"""The connections of :mod:`http.client`, and the handlers that make them, with a deadline.

A timeout of the standard library starts anew with each byte; here the timeout of a request
bounds all of it: look-up, connect, a proxy's answer, TLS, sending, and reading the answer.
"""

import io
import socket
import ssl
import urllib.request
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection, RemoteDisconnected
from typing import Any

from .deadline import Deadline
from .sockets import DeadlineReader, connect

__all__ = [
    "DeadlineHTTPConnection",
    "DeadlineHTTPHandler",
    "DeadlineHTTPSConnection",
    "DeadlineHTTPSHandler",
    "DeadlineResponse",
    "build_director",
    "default_context",
]


class DeadlineResponse(HTTPResponse):
    """An answer that must have been read by a deadline."""

    def __init__(
        self,
        sock: socket.socket,
        debuglevel: int = 0,
        method: str | None = None,
        url: str | None = None,
        *,
        deadline: Deadline,
    ) -> None:
        super().__init__(sock, debuglevel, method, url)
        self._reader = DeadlineReader(self.fp.detach(), sock, deadline)
        self.fp = io.BufferedReader(self._reader)

    def begin(self) -> None:
        """Read the status line and the header.

        Raises:
            RemoteDisconnected: the answer ends before its body begins.
        """
        try:
            super().begin()
        finally:
            # http.client takes the end of the stream for the end of the header.
            if self._reader.ended:
                raise RemoteDisconnected("the answer was cut off")


class DeadlineHTTPConnection(HTTPConnection):
    """A connection on which a whole exchange ends within ``timeout`` seconds.

    Attributes:
        deadline: when the exchange must have ended.
    """

    def __init__(self, host: str, port: int | None = None, *args: Any, **options: Any) -> None:
        super().__init__(host, port, *args, **options)
        if not isinstance(self.timeout, int | float):
            raise ValueError("a connection with a deadline needs a timeout in seconds")
        self.deadline = Deadline.after(self.timeout)
        self._refused = False
        # The one place where http.client lets its connections choose how to connect.
        self._create_connection = self._connected

    def connect(self) -> None:
        """Connect, through the proxy's tunnel if there is one."""
        super().connect()
        # What is left bounds a TLS handshake, which comes next.
        self.sock.settimeout(self.deadline.remaining())

    def send(self, data: Any) -> None:
        """Send bytes, connecting first where needed.

        A server may answer early and stop reading (RFC 9112, section 9.5). So a connection
        that breaks here is no error yet: the rest is dropped, and reading the answer shows
        whether there is one.
        """
        if self.sock is None:
            self.connect()
        unsent = memoryview(b"" if self._refused else data)
        try:
            while unsent:
                self.sock.settimeout(self.deadline.remaining())
                unsent = unsent[self.sock.send(unsent) :]
        except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
            self._refused = True

    def response_class(  # type: ignore[override]  # http.client does no more than call it
        self, sock: socket.socket, debuglevel: int = 0, method: str | None = None
    ) -> DeadlineResponse:
        """The answer that comes from the socket."""
        return DeadlineResponse(sock, debuglevel, method, deadline=self.deadline)

    def _connected(self, address: tuple[str, int], *_: object) -> socket.socket:
        return connect(*address, self.deadline)


class DeadlineHTTPSConnection(HTTPSConnection, DeadlineHTTPConnection):
    """The same with TLS: HTTPSConnection wraps the socket that the other class connects."""


class DeadlineHTTPHandler(urllib.request.HTTPHandler):
    """Opens http urls; the timeout is one for the whole exchange."""

    def http_open(self, req: urllib.request.Request) -> HTTPResponse:
        return self.do_open(DeadlineHTTPConnection, req)


class DeadlineHTTPSHandler(urllib.request.HTTPSHandler):
    """Opens https urls; the timeout is one for the whole exchange.

    Args:
        context: how to verify the server; by default :func:`default_context`.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self._tls = default_context() if context is None else context
        super().__init__(context=self._tls)

    def https_open(self, req: urllib.request.Request) -> HTTPResponse:
        return self.do_open(DeadlineHTTPSConnection, req, context=self._tls)


def default_context() -> ssl.SSLContext:
    """A context that verifies certificate and host name against the system's authorities."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def build_director(
    handlers: Sequence[urllib.request.BaseHandler],
) -> urllib.request.OpenerDirector:
    """An opener of these handlers and no others.

    Unlike :func:`urllib.request.build_opener` it adds none that follow redirects, raise for
    a status, read the environment, or open ``file:``, ``ftp:`` and ``data:``.
    """
    director = urllib.request.OpenerDirector()
    director.addheaders = [("User-agent", "dispatcher-http-sender")]
    for handler in handlers:
        director.add_handler(handler)
    return director
