"""From a request to one that is known to come from somebody who holds the secret.

Trust: nothing unsigned is. Of the headers only those are read that the signature covers, and
those that say how to read the body.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from wsgiref.types import WSGIEnvironment

from dispatcher_core.signing import SignedHeaders, Signer, read_headers, signed_path

from .body import (
    BigBodies,
    body_length,
    check_media_type,
    check_no_body,
    client_socket,
    late,
    read_body,
)
from .routes import Operation, Route
from .watchdog import Watchdog

__all__ = ["UnverifiedRequest", "VerifiedRequest", "Verifier"]

_HEADERS = {
    "webhook-id": "HTTP_WEBHOOK_ID",
    "webhook-timestamp": "HTTP_WEBHOOK_TIMESTAMP",
    "webhook-signature": "HTTP_WEBHOOK_SIGNATURE",
}


@dataclass(frozen=True, slots=True)
class UnverifiedRequest:
    """A request that was read whole, of which nobody knows who sent it.

    Attributes:
        signed: its signed headers.
        route: what it asks for.
        body: the raw body, empty for none.
    """

    signed: SignedHeaders
    route: Route
    body: bytes


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
            256 KiB that have come of it.
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

    def read(self, environ: WSGIEnvironment, route: Route) -> UnverifiedRequest:
        """The request with its body, once all is good that can be told without that.

        Raises:
            RequestError: it is not, or the body did not come; it may be left unread.
        """
        signed = read_headers({name: environ.get(key, "") for name, key in _HEADERS.items()})
        length = self._length(environ, route)
        signed.check_time(self._clock())
        return UnverifiedRequest(signed, route, self._body(environ, length))

    def verify(self, request: UnverifiedRequest) -> VerifiedRequest:
        """The request, once its signature is found to be good.

        Raises:
            RequestError: it is not.
        """
        signed, route, body = request.signed, request.route, request.body
        content = body if route.method == "POST" else signed_path(route.method, route.path)
        self._signer.verify_signature(signed, content)
        return VerifiedRequest(signed.id, route, body)

    def _length(self, environ: WSGIEnvironment, route: Route) -> int:
        if route.operation in self._limits:
            check_media_type(environ)
            return body_length(environ, self._limits[route.operation])
        check_no_body(environ)
        return 0

    def _body(self, environ: WSGIEnvironment, length: int) -> bytes:
        if not length:
            return b""
        with self._watchdog.limit(client_socket(environ), self._body_timeout) as deadline:
            body = read_body(environ["wsgi.input"], length, deadline, self._big_bodies)
        if deadline.passed:  # just now; no other request can be read from this connection
            raise late()
        return body
