"""The sender on :mod:`urllib.request`: kept connections, and one deadline for each request."""

from contextlib import closing
from http.client import HTTPException
from typing import Self, cast
from urllib.error import HTTPError
from urllib.request import OpenerDirector, ProxyHandler

from dispatcher_core.errors import ConfigError, SendFailed
from dispatcher_core.protocols import Request, Response

from .answers import Answer, read_answer
from .deadline import Deadline
from .failures import bad_answer, send_failed
from .handlers import DeadlineHTTPHandler, DeadlineHTTPSHandler, build_director
from .outgoing import FinalRequest, check_request

__all__ = ["UrllibSender"]


class UrllibSender:
    """Sends requests over http and https. Many threads and forks may share one sender.

    Redirects are answers, never followed; TLS certificates are verified; only http and https
    are opened. A connection is kept, and reused by a request within four seconds; one that the
    server has closed meanwhile is replaced unnoticed. It is closed at the next request after
    that, with the ``with`` block that the sender is used in, or when the sender is gone.

    Args:
        opener: an opener to use instead, such as one with a TLS context of its own. Its
            redirects are not followed either. Unless it is built with the handlers of
            :mod:`dispatcher_http_sender.handlers`, it keeps no connection, and its timeouts
            are its own until the answer's header has come: a server that drips can stretch
            them.
        use_environment_proxies: whether to send through the proxies that ``http_proxy`` and
            ``https_proxy`` name at the time the sender is made, but to no host that
            ``no_proxy`` names at the time of a request.

    Raises:
        ConfigError: both were given.
    """

    def __init__(
        self, opener: OpenerDirector | None = None, *, use_environment_proxies: bool = False
    ) -> None:
        if opener is not None and use_environment_proxies:
            raise ConfigError(
                "use_environment_proxies does not change an opener of your own: add a"
                " urllib.request.ProxyHandler to it instead"
            )
        self._opener = _default_opener(use_environment_proxies) if opener is None else opener

    def send(self, request: Request, timeout: float) -> Response:
        """The answer to the request, also one that refuses.

        Args:
            request: what to send.
            timeout: seconds for the whole exchange, from the look-up of the host to the last
                byte of the answer.

        Raises:
            SendFailed: with the code ``unreachable`` (refused, unknown host, reset, cut-off
                answer), ``timeout``, ``tls-failed``, ``bad-answer`` (not HTTP, or over 1 MiB),
                or ``rejected`` for a request that must not be sent at all.
        """
        deadline = Deadline.after(timeout)
        place = check_request(request)
        try:
            with closing(self._open(FinalRequest(request), place, deadline)) as answer:
                return read_answer(answer, place, deadline)
        except (OSError, HTTPException, ValueError) as error:
            raise send_failed(error, place, timeout) from error

    def close(self) -> None:
        """Close the kept connections. The sender can still be used, and will make new ones."""
        for handler in getattr(self._opener, "handlers", ()):
            handler.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, request: FinalRequest, place: str, deadline: Deadline) -> Answer:
        try:
            answer = self._opener.open(request, timeout=deadline.remaining())
        except HTTPError as error:
            answer = error
        if answer is None:
            raise SendFailed(
                f"nothing was sent: the opener has no handler for {request.type}: add a"
                " DeadlineHTTPHandler and a DeadlineHTTPSHandler to it",
                "rejected",
                retryable=False,
            )
        if answer.url != request.full_url:
            answer.close()
            raise bad_answer(place, "came after a redirect, which the opener must not follow")
        return cast(Answer, answer)


def _default_opener(use_environment_proxies: bool) -> OpenerDirector:
    proxies = [ProxyHandler()] if use_environment_proxies else []
    return build_director([*proxies, DeadlineHTTPHandler(), DeadlineHTTPSHandler()])
