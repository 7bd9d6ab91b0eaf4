"""A threaded server for one process, on what the standard library has.

It speaks HTTP/1.0, one request a connection. For more than a few requests a second, or where
strangers can reach it, run the receiver under a server such as gunicorn.
"""

import logging
import socket
import sys
import threading
from contextlib import suppress
from http import HTTPStatus
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import WSGIApplication, WSGIEnvironment

from .body import SOCKET_KEY
from .lingering import linger
from .watchdog import Watchdog

__all__ = ["HEADER_TIMEOUT", "Server"]

HEADER_TIMEOUT = 10.0
"""Seconds in which the header of a request must have come."""

_MAX_LOGGED = 200
# Each may hold a body of some size in memory before anybody knows who sent it.
_MAX_CONNECTIONS = 128
_LINGER_SECONDS = 2.0

logger = logging.getLogger("dispatcher.server")


class _Handler(WSGIRequestHandler):
    """Reads one request in bounded time.

    Logs it in one line, without its query and with nothing that forges a line.
    """

    server: "Server"
    timeout = 30.0  # for each read and write: nobody else ends an answer that is not read

    def setup(self) -> None:
        super().setup()
        self._header = self.server.watchdog.start(self.connection, self.server.header_timeout)

    def parse_request(self) -> bool:
        parsed = super().parse_request()
        self.server.watchdog.stop(self.connection)
        if self._header.passed and self.request_version != "HTTP/0.9":  # that has no status
            self.send_error(HTTPStatus.REQUEST_TIMEOUT)
        return parsed and not self._header.passed

    def get_environ(self) -> WSGIEnvironment:
        # RFC 9110, section 8.6: of two lengths neither can be trusted; the application gets both.
        lengths = {"CONTENT_LENGTH": ", ".join(self.headers.get_all("Content-Length", []))}
        return {**super().get_environ(), **lengths, SOCKET_KEY: self.connection}

    def finish(self) -> None:
        self.server.watchdog.stop(self.connection)  # where it did not even begin
        super().finish()
        linger(self.connection, self.server.watchdog, _LINGER_SECONDS)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        line = self.requestline.partition("?")[0][:_MAX_LOGGED]
        logger.info("%s %s %s", self.client_address[0], ascii(line), code)

    def log_message(self, format: str, *args: object) -> None:
        logger.warning("%s %s", self.client_address[0], ascii(format % args)[:_MAX_LOGGED])


class Server(ThreadingMixIn, WSGIServer):
    """Listens as soon as it is made; ``serve_forever`` answers, each request in a thread.

    More connections than it takes at once wait until others have ended.

    Args:
        host: the address to listen on, IPv4, IPv6 or a name.
        port: the port; 0 takes a free one.
        app: what answers.
        header_timeout: seconds in which the header of a request must have come.

    Attributes:
        watchdog: ends reads that take too long.

    Raises:
        OSError: the address cannot be listened on.
    """

    # Threads end by themselves; drain() waits for them, but not for ever.
    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, host: str, port: int, app: WSGIApplication, *, header_timeout: float = HEADER_TIMEOUT
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._open: set[socket.socket] = set()
        self._changed = threading.Condition()
        self._stopping = False
        self.watchdog, self.header_timeout = Watchdog(), header_timeout
        super().__init__((host, port), _Handler)
        self.set_app(app)

    @property
    def url(self) -> str:
        """Where the server can be reached."""
        host = f"[{self.server_name}]" if ":" in self.server_name else self.server_name
        return f"http://{host}:{self.server_port}"

    def server_bind(self) -> None:
        """Bind without looking up the name of the host, which may take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.socket.getsockname()[:2]
        self.setup_environ()

    def drain(self, seconds: float) -> None:
        """Let the open connections end; after so many seconds no more is read from them.

        A request that is read by then is still answered, within the same time again.
        """
        with self._changed:
            if self._changed.wait_for(lambda: not self._open, seconds):
                return
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RD)
            self._changed.wait_for(lambda: not self._open, seconds)

    def shutdown(self) -> None:
        """Stop ``serve_forever``, also while it waits for connections to end."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        super().shutdown()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, and know the connection until then."""
        with self._changed:
            self._changed.wait_for(self._has_room)
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close the connection."""
        super().shutdown_request(request)
        with self._changed:
            self._open.discard(request)
            self._changed.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what ended a connection; a traceback only where it is not the network's doing."""
        error = sys.exception()
        traceback = not isinstance(error, OSError)
        logger.warning(
            "the connection from %s broke: %s", client_address[0], ascii(error), exc_info=traceback
        )

    def _has_room(self) -> bool:
        return self._stopping or len(self._open) < _MAX_CONNECTIONS
