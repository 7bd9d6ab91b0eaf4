"""Connections of :mod:`http.client` that carry one exchange after the other, with a deadline.

A timeout of the standard library starts anew with each byte; here the deadline of an exchange
bounds all of it: look-up, connect, a proxy's answer, TLS, sending, and reading the answer.
"""

import select
import socket
import ssl
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from http.client import HTTPS_PORT, HTTPConnection, HTTPResponse
from typing import Any, cast
from urllib.parse import urlsplit

from .answers import MAX_BODY
from .deadline import Deadline
from .incoming import may_follow, read_body, read_head
from .reader import SocketReader
from .sockets import connect

__all__ = [
    "DeadlineHTTPConnection",
    "DeadlineHTTPSConnection",
    "DeadlineResponse",
    "Message",
    "Place",
    "Sessions",
]

_JOINED = 64 * 1024


@dataclass(frozen=True, slots=True)
class Place:
    """Where a connection leads; those to one place are alike.

    Attributes:
        host: what to connect to, the server or a proxy, with a port unless it is the usual one.
        tunnel: the server behind a proxy's tunnel, empty without one.
        authorization: what opens the tunnel, empty for nothing.
    """

    host: str
    tunnel: str = ""
    authorization: str = field(default="", repr=False)

    @property
    def server(self) -> str | None:
        """The name of the server, which TLS verifies."""
        return urlsplit(f"//{self.tunnel or self.host}").hostname


@dataclass(frozen=True, slots=True)
class Message:
    """A request as http.client sends it.

    Attributes:
        method: such as ``POST``.
        target: the path, or the whole url for a proxy.
        headers: all of them, but for what http.client adds.
        body: empty for none.
    """

    method: str
    target: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


Sessions = MutableMapping[Place, ssl.SSLSession]
"""What TLS needs to resume (RFC 8446, section 2.2): of each place the session of the last
connection that was answered. The next one takes it out, for a session is not used twice."""


class DeadlineResponse(HTTPResponse):
    """An answer that is read as a whole before anybody sees it.

    Attributes:
        body: its body, or the first bytes of one over 1 MiB, one more than that.
    """

    body = b""

    def __init__(self, reader: SocketReader, method: str | None) -> None:
        # Of a socket it wants no more than the file.
        super().__init__(cast(socket.socket, reader), method=method)
        self._reader = reader
        self._asked = method

    def begin(self) -> None:
        """Read the answer. ``will_close`` says whether it must be the connection's last one.

        Raises:
            MalformedAnswer: it is not HTTP.
            IncompleteRead: it was cut off.
            OSError: the connection broke. A TimeoutError past the deadline.
        """
        head = read_head(self._reader)
        body = read_body(self._reader, head, self._asked, MAX_BODY)
        self.version, self.status, self.reason = head.version, head.status, head.reason
        self.code = head.status
        self.headers = self.msg = head.headers
        self.body = body.data
        self.will_close = not (body.whole and may_follow(head)) or self._reader.leftover
        self.close()


class DeadlineHTTPConnection(HTTPConnection):
    """A connection to a place, made when it is first needed."""

    def __init__(self, place: Place) -> None:
        super().__init__(place.host)
        if place.tunnel:
            proof = {"Proxy-Authorization": place.authorization}
            self.set_tunnel(place.tunnel, headers=proof if place.authorization else {})
        self._body = b""
        self._refused = False
        # An attribute hides the method below, and the method itself in it would be a cycle.
        del self._create_connection

    @property
    def answered(self) -> bool:
        """Whether any byte of an answer has come in the last exchange."""
        return self._reader.received > 0

    def exchange(self, message: Message, deadline: Deadline) -> DeadlineResponse:
        """The answer to the message. Without a ``sock`` afterwards the connection has ended.

        Raises:
            HTTPException: the answer is not HTTP, or was cut off.
            OSError: the connection broke. A TimeoutError past the deadline.
        """
        self._deadline = deadline
        if self.sock is None:
            self.connect()
        self._reader.renew(deadline)
        self._body = message.body
        self.request(message.method, message.target, headers=message.headers)
        response = self.getresponse()
        if self._refused:
            self.close()
        return cast(DeadlineResponse, response)

    def is_stale(self) -> bool:
        """Whether there is something to read, though nothing was asked.

        It would be the end, or bytes that must not be taken for an answer.
        """
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return bool(poll.poll(0))

    def send(self, data: Any) -> None:
        """Send a header, and the body with it, in one call where it is small.

        A server may answer early and stop reading (RFC 9112, section 9.5). So a connection
        that breaks here is no error yet: the rest is dropped, and reading the answer shows
        whether there is one.
        """
        body, self._body = self._body, b""
        pieces = [data + body] if len(body) < _JOINED else [data, body]
        try:
            for piece in pieces:
                self._send_all(memoryview(piece))
        except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
            self._refused = True

    def response_class(  # type: ignore[override]  # http.client does no more than call it
        self, sock: socket.socket, debuglevel: int = 0, method: str | None = None
    ) -> DeadlineResponse:
        """The answer that comes from the socket."""
        return DeadlineResponse(self._reader, method)

    def _create_connection(self, address: tuple[str, int], *_: object) -> socket.socket:
        # The one place where http.client lets its connections choose how to connect.
        sock = connect(*address, self._deadline)
        self._reader = SocketReader(sock, self._deadline)
        return sock

    def _send_all(self, unsent: memoryview) -> None:
        while unsent:
            self.sock.settimeout(self._deadline.remaining())
            unsent = unsent[self.sock.send(unsent) :]


class DeadlineHTTPSConnection(DeadlineHTTPConnection):
    """The same with TLS.

    Args:
        place: where it leads.
        context: how to verify the server.
        sessions: where it takes a session from, and leaves its own.
    """

    default_port = HTTPS_PORT

    def __init__(self, place: Place, context: ssl.SSLContext, sessions: Sessions) -> None:
        super().__init__(place)
        self._place = place
        self._context = context
        self._sessions = sessions

    def connect(self) -> None:
        """Connect, through the proxy's tunnel if there is one, and agree on TLS."""
        super().connect()
        self.sock.settimeout(self._deadline.remaining())
        self.sock = self._context.wrap_socket(
            self.sock,
            server_hostname=self._place.server,
            session=self._sessions.pop(self._place, None),
        )
        self._reader = SocketReader(self.sock, self._deadline)

    def close(self) -> None:
        """Close the connection, and leave its session to the next one if it is a good one."""
        if isinstance(self.sock, ssl.SSLSocket) and self.sock.session and self.answered:
            self._sessions[self._place] = self.sock.session
        super().close()
