"""The handlers of a urllib opener, over kept connections."""

import io
import ssl
import urllib.request
from collections.abc import Callable, Sequence
from email.message import Message as Header
from urllib.error import URLError

from .connections import (
    DeadlineHTTPConnection,
    DeadlineHTTPSConnection,
    DeadlineResponse,
    Message,
    Place,
    Sessions,
)
from .deadline import Deadline
from .pool import ConnectionPool

__all__ = [
    "BufferedAnswer",
    "DeadlineHTTPHandler",
    "DeadlineHTTPSHandler",
    "build_director",
    "default_context",
]


class BufferedAnswer(io.BytesIO):
    """The body of an answer that was read already, with what urllib's handlers ask of one.

    Attributes:
        status: the status code, also as ``code``.
        msg: the words after it.
        headers: the header.
        url: what was asked.
    """

    def __init__(self, response: DeadlineResponse, url: str) -> None:
        super().__init__(response.body)
        self.status = self.code = response.status
        self.msg = response.reason
        self.headers: Header = response.headers
        self.url = url

    def info(self) -> Header:
        """The header."""
        return self.headers

    def geturl(self) -> str:
        """What was asked."""
        return self.url


class DeadlineHTTPHandler(urllib.request.HTTPHandler):
    """Opens http urls over kept connections; the timeout is one for the whole exchange.

    It reads an answer up to 1 MiB before it hands it over. A request that a kept connection
    loses, without a byte of an answer, is sent once more over a fresh one: requests must be
    safe to repeat, as those of Dispatcher are by their ids. Many threads may share it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._kept = _KeptConnections(DeadlineHTTPConnection)

    def http_open(  # type: ignore[override]  # urllib takes any of its kinds of answer
        self, req: urllib.request.Request
    ) -> BufferedAnswer:
        return self._kept.open(req)

    def close(self) -> None:
        """Close the connections that wait for their next request."""
        self._kept.close()


class DeadlineHTTPSHandler(urllib.request.HTTPSHandler):
    """The same for https urls. A new connection resumes the TLS session of an old one.

    Args:
        context: how to verify the server; by default :func:`default_context`.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        tls = default_context() if context is None else context
        super().__init__(context=tls)
        sessions: Sessions = {}
        self._kept = _KeptConnections(lambda place: DeadlineHTTPSConnection(place, tls, sessions))

    def https_open(  # type: ignore[override]  # as above
        self, req: urllib.request.Request
    ) -> BufferedAnswer:
        return self._kept.open(req)

    def close(self) -> None:
        """Close the connections that wait for their next request."""
        self._kept.close()


class _KeptConnections:
    """Exchanges requests for answers, over kept connections where there are some."""

    def __init__(self, connection: Callable[[Place], DeadlineHTTPConnection]) -> None:
        self._connection = connection
        self._pool: ConnectionPool[DeadlineHTTPConnection] = ConnectionPool()
        self.close = self._pool.close

    def open(self, request: urllib.request.Request) -> BufferedAnswer:
        deadline = Deadline.after(_timeout(request))
        place, message = _place_and_message(request)
        return BufferedAnswer(self._exchange(place, message, deadline), request.full_url)

    def _exchange(self, place: Place, message: Message, deadline: Deadline) -> DeadlineResponse:
        kept = self._pool.take(place)
        if kept is not None:
            try:
                return self._ask(kept, place, message, deadline)
            except OSError:
                # The server may have closed it at the very moment.
                if kept.answered:
                    raise
        return self._ask(self._connection(place), place, message, deadline)

    def _ask(
        self,
        connection: DeadlineHTTPConnection,
        place: Place,
        message: Message,
        deadline: Deadline,
    ) -> DeadlineResponse:
        try:
            response = connection.exchange(message, deadline)
        except BaseException:
            connection.close()
            raise
        if connection.sock is not None:
            self._pool.put(place, connection)
        return response


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


def _timeout(request: urllib.request.Request) -> float:
    if isinstance(request.timeout, int | float):
        return request.timeout
    raise URLError("a request with a deadline needs a timeout in seconds")


def _place_and_message(request: urllib.request.Request) -> tuple[Place, Message]:
    if not request.host:
        raise URLError("no host given")
    # Cookies and the like may be added to what a redirect drops, and the other way round.
    items = {**request.headers, **request.unredirected_hdrs}
    headers = {name.title(): value for name, value in items.items() if name != "Connection"}
    # The one word that urllib has for the server behind a proxy.
    tunnel = getattr(request, "_tunnel_host", None) or ""
    # What opens a proxy's tunnel is not for the server behind it.
    authorization = headers.pop("Proxy-Authorization", "") if tunnel else ""
    if not isinstance(request.data, bytes | None):
        raise URLError("the body must be bytes")
    message = Message(request.get_method(), request.selector, headers, request.data or b"")
    return Place(request.host, tunnel, authorization), message
