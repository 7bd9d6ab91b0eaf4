"""Sending without a network: straight into a WSGI application."""

import io
from collections.abc import Callable
from types import TracebackType
from typing import TypeAlias
from urllib.parse import unquote_to_bytes, urlsplit
from wsgiref.types import WSGIApplication, WSGIEnvironment

from ..protocols import Request, Response

__all__ = ["WSGISender"]

_ExceptionInfo: TypeAlias = (
    tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None] | None
)


class WSGISender:
    """A sender that calls a WSGI application (PEP 3333) in this process.

    The URL's host is ignored; its path is what the application sees. What the application
    raises fails the call, as a server's answer 500 would.

    Args:
        app: the application, such as one that a receiver is mounted in.
    """

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def send(self, request: Request, timeout: float) -> Response:
        """The application's answer; it may take as long as it likes."""
        answer = _Answer()
        chunks = self._app(_environ(request), answer.start)
        try:
            for chunk in chunks:
                answer.body.write(chunk)
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()
        return answer.response()


class _Answer:
    """What the application says through ``start_response``, and the body."""

    def __init__(self) -> None:
        self.body = io.BytesIO()
        self._status = ""
        self._headers: list[tuple[str, str]] = []

    def start(
        self,
        status: str,
        headers: list[tuple[str, str]],
        exc_info: _ExceptionInfo = None,
        /,
    ) -> Callable[[bytes], object]:
        """``start_response`` as the application calls it."""
        if self._status and exc_info is None:
            raise AssertionError("start_response was called twice without exc_info")
        if self.body.tell() and exc_info is not None and exc_info[1] is not None:
            raise exc_info[1]  # part of the answer has gone out already
        self._status, self._headers = status, headers
        return self.body.write

    def response(self) -> Response:
        """The answer, once the application has given all of it."""
        if not self._status:
            raise AssertionError("the application did not call start_response")
        headers: dict[str, str] = {}
        for name, value in self._headers:
            key = name.lower()
            # RFC 9110, section 5.2: fields of one name make one list.
            headers[key] = f"{headers[key]}, {value}" if key in headers else value
        return Response(int(self._status[:3]), headers, self.body.getvalue())


def _environ(request: Request) -> WSGIEnvironment:
    url = urlsplit(request.url)
    environ: WSGIEnvironment = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        # PEP 3333: bytes, decoded as if they were latin-1
        "PATH_INFO": unquote_to_bytes(url.path).decode("latin-1"),
        "QUERY_STRING": url.query,
        "SERVER_NAME": url.hostname or "localhost",
        "SERVER_PORT": str(url.port or (443 if url.scheme == "https" else 80)),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": url.netloc,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": url.scheme,
        "wsgi.input": io.BytesIO(request.body),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    if request.body or request.method == "POST":
        environ["CONTENT_LENGTH"] = str(len(request.body))
    for name, value in request.headers.items():
        key = name.upper().replace("-", "_")
        environ[key if key == "CONTENT_TYPE" else f"HTTP_{key}"] = value
    return environ
