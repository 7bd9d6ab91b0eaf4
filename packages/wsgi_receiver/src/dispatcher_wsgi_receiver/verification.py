"""From a request to one that is known to come from somebody who holds the secret.

Trust: nothing unsigned is. Of the headers only those are read that the signature covers, and
those that say how to read the body.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from wsgiref.types import WSGIEnvironment

from dispatcher_core.signing import Signer, read_headers, signed_path

from .body import (
    BigBodies,
    body_length,
    body_seconds,
    check_media_type,
    check_no_body,
    client_socket,
    read_body,
)
from .routes import Operation, Route
from .watchdog import Watchdog

__all__ = ["VerifiedRequest", "Verifier"]

_HEADERS = {
    "webhook-id": "HTTP_WEBHOOK_ID",
    "webhook-timestamp": "HTTP_WEBHOOK_TIMESTAMP",
    "webhook-signature": "HTTP_WEBHOOK_SIGNATURE",
}


@dataclass(frozen=True, slots=True)
class VerifiedRequest:
    """A request that was signed with a secret of ours.

    Attributes:
        id: the value of ``webhook-id``.
        route: what it asks for.
        body: the raw body, empty for none.
    """

    id: str
    route: Route
    body: bytes


class Verifier:
    """Reads and verifies requests. Many threads may use it at once.

    Args:
        signer: verifies the signatures.
        clock: the time in Unix seconds.
        limits: the most bytes of a body, for each operation that takes one.
        watchdog: ends the reading of bodies that come too late.
        body_timeout: seconds in which a body must have come, besides a second for each
            256 KiB of it.
    """

    def __init__(
        self,
        signer: Signer,
        clock: Callable[[], float],
        limits: Mapping[Operation, int],
        watchdog: Watchdog,
        body_timeout: float,
    ) -> None:
        self._signer = signer
        self._clock = clock
        self._limits = limits
        self._body_timeout = body_timeout
        self._big_bodies = BigBodies()
        self._watchdog = watchdog

    def verify(self, environ: WSGIEnvironment, route: Route) -> VerifiedRequest:
        """The request, once its signature is found to be good.

        Raises:
            RequestError: it is not; what can be told without the body is checked before that
                is read.
        """
        signed = read_headers({name: environ.get(key, "") for name, key in _HEADERS.items()})
        length = self._length(environ, route)
        signed.check_time(self._clock())
        with self._big_bodies.slot(length):
            body = self._read(environ, length)
        content = body if route.method == "POST" else signed_path(route.method, route.path)
        self._signer.verify_signature(signed, content)
        return VerifiedRequest(signed.id, route, body)

    def _length(self, environ: WSGIEnvironment, route: Route) -> int:
        if route.operation in self._limits:
            check_media_type(environ)
            return body_length(environ, self._limits[route.operation])
        check_no_body(environ)
        return 0

    def _read(self, environ: WSGIEnvironment, length: int) -> bytes:
        if not length:
            return b""
        seconds = body_seconds(length, self._body_timeout)
        with self._watchdog.limit(client_socket(environ), seconds) as deadline:
            return read_body(environ["wsgi.input"], length, deadline)
