"""The sender on :mod:`requests`, for those who have a session with adapters of their own."""

import os
import ssl
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from http.client import HTTPException, IncompleteRead
from io import BytesIO
from itertools import chain
from typing import Any, Self, cast

from dispatcher_core.errors import SendFailed
from dispatcher_core.protocols import Request, Response

from .answers import Answer, read_answer
from .background import finish_within
from .deadline import Deadline
from .failures import send_failed
from .outgoing import check_request
from .pool import MOST_IDLE

try:
    import requests
    from urllib3.exceptions import HTTPError
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"{error}: the sender 'requests' needs pip install 'dispatcher-http-sender[requests]'",
        name=error.name,
    ) from error

__all__ = ["MOST_LATE", "RequestsSender"]

MOST_LATE = 64
"""How many exchanges may go on past their deadline before others are refused."""

_WORDS_OF_ITS_OWN = (requests.RequestException, HTTPError)
# Raised before anything is sent.
_NOT_SENT = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.InvalidHeader,
    requests.exceptions.MissingSchema,
)


class RequestsSender:
    """Sends requests with a session of requests. Many threads may share one sender.

    A send is one try; redirects are answers, never followed. The session's adapters, proxies,
    certificates, authentication and headers are used, but method, url, body and what Dispatcher
    puts into the header go out as they were signed. Where authentication answers a challenge,
    it is one try all the same, and the last answer is the answer. The session's response hooks
    see answers, and cannot change them; its cookies are sent, and none are kept.

    Args:
        session: by default one that verifies TLS, ignores the environment, and is renewed in a
            fork. A caller's own session must not be shared with a fork.
    """

    def __init__(self, session: requests.Session | None = None) -> None:
        self._owned = session is None
        self._session = _new_session() if session is None else session
        self._pid = os.getpid()
        # Without a lock: each step on a set is atomic.
        self._running: set[_Exchange] = set()

    def send(self, request: Request, timeout: float) -> Response:
        """The answer to the request, also one that refuses.

        Each send has a thread of its own, for nothing else bounds the look-up of a host, or a
        header that drips in. It is left behind when the time is up, until requests returns;
        where 64 were left behind and go on, nothing more is sent until one of them ends.

        Args:
            request: what to send.
            timeout: seconds for the whole exchange, from the look-up of the host to the last
                byte of the answer.

        Raises:
            SendFailed: with the code ``unreachable`` (refused, unknown host, reset, cut-off
                answer), ``timeout``, ``tls-failed``, ``bad-answer`` (not HTTP, or over 1 MiB),
                or ``rejected`` for a request that must not be sent at all.
        """
        place = check_request(request)
        session = self._current()
        self._check_late(place)
        exchange = _Exchange(session, request, place, Deadline.after(timeout))
        try:
            return finish_within(exchange.deadline, partial(self._run, exchange))
        except _NOT_SENT as error:
            text = f"nothing was sent: requests refuses it ({type(error).__name__})"
            raise SendFailed(text, "rejected", retryable=False) from error
        except (OSError, HTTPException, HTTPError) as error:
            raise send_failed(_cause(error), place, timeout) from error

    def close(self) -> None:
        """Close the kept connections, unless the session is the caller's."""
        if self._owned:
            self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _current(self) -> requests.Session:
        if self._pid != os.getpid():
            # The parent's threads are not here, and its connections carry its own answers.
            self._session = _new_session() if self._owned else self._session
            self._running, self._pid = set(), os.getpid()
        return self._session

    def _check_late(self, place: str) -> None:
        late = [one for one in self._running.copy() if one.deadline.passed]
        if len(late) >= MOST_LATE:
            text = f"nothing was sent to {place}: {len(late)} requests go on past their deadline"
            raise SendFailed(text, "timeout")

    def _run(self, exchange: "_Exchange") -> Response:
        running = self._running
        running.add(exchange)
        try:
            return exchange.run()
        finally:
            running.discard(exchange)


class _Exchange:
    """One request and its answer."""

    def __init__(
        self, session: requests.Session, request: Request, place: str, deadline: Deadline
    ) -> None:
        self.deadline = deadline
        self._session = session
        self._request = request
        self._place = place
        self._answer: Response | None = None
        self._body = _ReadBody()

    def run(self) -> Response:
        prepared = _prepared(self._session, self._request)
        # Before each hook, so that none, and no look for a redirect, reads without bounds: one
        # that answers a challenge hands on another response.
        hooks = [(self._read, hook) for hook in prepared.hooks["response"]]
        prepared.hooks["response"] = [*chain.from_iterable(hooks), self._read]
        session = self._session
        # Certificates of the session, named once more, go before those of the environment.
        settings = session.merge_environment_settings(
            self._request.url, {}, stream=True, verify=session.verify, cert=None
        )
        try:
            session.send(
                prepared, timeout=self.deadline.remaining(), allow_redirects=False, **settings
            )
        except (requests.ConnectionError, requests.Timeout):
            raise  # Also where a challenge was answered before.
        except (requests.RequestException, ValueError):
            # Hooks that raise for a status, and a Location that is no url.
            if self._answer is None:
                raise
        if self._answer is None:
            raise OSError("the session gave no answer")
        return self._answer

    def _read(self, response: requests.Response, **_: Any) -> None:
        """Read a response that was not read yet, but none that a hook has made up."""
        if response.raw in (None, self._body) or (self._answer and not response.history):
            return
        with closing(response):
            self._answer = read_answer(cast(Answer, response.raw), self._place, self.deadline)
        if _may_be_cut_off(self._request.method, self._answer):
            self._answer = None
            raise OSError("the answer was cut off")
        # For the hooks that come after.
        self._body = response.raw = _ReadBody(self._answer.body)


class _ReadBody(BytesIO):
    """The body of an answer that was read, in place of what it was read from."""

    def release_conn(self) -> None:
        """Nothing: what answers a challenge wants the connection to be free, and it is."""


def _new_session() -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    session.headers["User-Agent"] = "dispatcher-http-sender"
    for scheme in ("https://", "http://"):
        session.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=MOST_IDLE))
    return session


def _prepared(session: requests.Session, request: Request) -> requests.PreparedRequest:
    prepared = session.prepare_request(
        requests.Request(request.method, request.url, data=request.body)
    )
    # What session, authentication and requests made of them must not break the signature.
    prepared.method, prepared.url = request.method, request.url
    prepared.body = request.body or None
    prepared.prepare_content_length(prepared.body)
    # A compressed answer of 1 MiB could be a thousand times that.
    prepared.headers.update({"Accept-Encoding": "identity", **request.headers})
    return prepared


def _may_be_cut_off(method: str, answer: Response) -> bool:
    """Whether it may have ended within its header, which http.client does not tell."""
    bounded = answer.headers.keys() & {"content-length", "transfer-encoding"}
    return not (bounded or answer.body or answer.status in (204, 304) or method == "HEAD")


def _cause(error: Exception) -> Exception:
    """What the standard library said, or the next best that it could have said."""
    for cause in _causes(error):
        if isinstance(cause, IncompleteRead) or not isinstance(cause, _WORDS_OF_ITS_OWN):
            return cause
    if isinstance(error, requests.Timeout):
        return TimeoutError(str(error))
    if isinstance(error, requests.exceptions.SSLError):
        return ssl.SSLError(str(error))
    return OSError(str(error))


def _causes(error: BaseException | None) -> Iterator[Exception]:
    while isinstance(error, Exception):
        yield error
        inner = [getattr(error, "reason", None), *error.args, error.__cause__, error.__context__]
        error = next((one for one in reversed(inner) if isinstance(one, Exception)), None)
