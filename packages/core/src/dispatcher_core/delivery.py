"""One call to the backend, with all its tries."""

import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from . import background
from .answers import CHECK_URL, RETRYABLE, retry_after
from .backoff import Jitter, full_jitter
from .describing import describe
from .errors import DispatcherError, SendFailed
from .names import new_id
from .protocols import Request, Response, Sender
from .signing import Signer, signed_path

__all__ = ["SYSTEM_CLOCK", "TRIES", "Call", "Clock", "Delivery"]

TRIES = 5

_FIRST_PAUSE = 0.5
_MOST_PAUSE = 5.0
# With less time than this a try would end in a timeout, and hide what the one before it said.
_LEAST = 0.1

# What to do about a failure of the sender; the others say it themselves.
_ADVICE = {
    "unreachable": "check that the backend runs and that its URL is right",
    "timeout": "check that the backend runs, or give it more seconds with DISPATCHER_TIMEOUT",
    "tls-failed": "check the backend's certificate, that this machine trusts who issued it,"
    " and that the port speaks TLS",
    "bad-answer": CHECK_URL,
}


@dataclass(frozen=True, slots=True)
class Clock:
    """Time and chance, which tests give otherwise.

    Attributes:
        now: the time in Unix seconds.
        monotonic: seconds since some moment, never set back.
        sleep: waits for so many seconds.
        sleep_async: waits for so many seconds while the event loop goes on.
        uniform: a random number between two others.
    """

    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    sleep_async: Callable[[float], Awaitable[None]] = background.sleep
    uniform: Jitter = random.uniform


SYSTEM_CLOCK = Clock()


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked of the backend.

    Attributes:
        method: ``GET``, ``POST`` or ``DELETE``.
        path: relative to the backend's URL, such as ``/dispatch``.
        id: the value of ``webhook-id``: of a dispatch the job's, else a fresh one.
        body: JSON in UTF-8; only a ``POST`` has one.
    """

    method: str
    path: str
    id: str
    body: bytes = b""

    @classmethod
    def without_body(cls, method: str, path: str) -> "Call":
        """A ``GET`` or ``DELETE``."""
        return cls(method, path, new_id())

    @property
    def signed(self) -> bytes:
        """What the signature covers besides id and timestamp."""
        return self.body if self.method == "POST" else signed_path(self.method, self.path)


class Delivery:
    """Sends calls to one backend. Threads may share it.

    Args:
        url: the backend's base URL, without a slash at its end.
        signer: signs the requests.
        sender: sends each of them once.
        timeout: seconds for one try.
        deadline: seconds for a call with all its tries.
        tries: how often a call is tried at most.
        clock: time and chance.
    """

    def __init__(
        self,
        url: str,
        signer: Signer,
        sender: Sender,
        *,
        timeout: float,
        deadline: float,
        tries: int = TRIES,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.clock = clock
        self._url = url
        self._signer = signer
        self._sender = sender
        self._timeout = timeout
        self._deadline = deadline
        self._tries = tries

    def send(self, call: Call, within: float | None = None) -> Response:
        """The backend's answer: the first that is final, else that of the last try.

        Every try has the same id and bytes, and a timestamp and signature of its own.
        Tried again are answers with a status in ``RETRYABLE`` and what the sender calls
        retryable, after ``max(jitter, Retry-After)``, where that leaves at least 0.1 s before
        the deadline.

        Args:
            call: what to ask.
            within: seconds for all tries, where that is less than the deadline.

        Raises:
            SendFailed: the last try ended without an answer.
        """
        limit = self._deadline if within is None else min(within, self._deadline)
        end = self.clock.monotonic() + limit
        tried, left = 0, limit
        while True:
            tried += 1
            outcome = self._try(call, min(self._timeout, left))
            is_last = tried >= self._tries or not _may_pass(outcome)
            left = 0.0 if is_last else self._rest(self._pause(outcome, tried), end)
            if not left:
                return _settled(outcome, tried, call)

    def _rest(self, pause: float, end: float) -> float:
        """Seconds that another try has after the pause; 0, at once, where they are too few."""
        if end - self.clock.monotonic() - pause < _LEAST:
            return 0.0
        self.clock.sleep(pause)
        left = end - self.clock.monotonic()
        return left if left >= _LEAST else 0.0

    def _try(self, call: Call, timeout: float) -> Response | SendFailed:
        try:
            return self._sender.send(self._request(call), timeout)
        except SendFailed as error:
            return error
        except DispatcherError:
            raise
        except Exception as error:
            text = f"the sender broke: {describe(error)}"
            raise SendFailed(text, "rejected", retryable=False) from error

    def _request(self, call: Call) -> Request:
        timestamp = int(self.clock.now())
        headers = {
            "accept": "application/json",
            "webhook-id": call.id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": self._signer.sign(call.id, timestamp, call.signed),
        }
        if call.method == "POST":
            headers["content-type"] = "application/json"
        return Request(call.method, self._url + call.path, headers, call.body)

    def _pause(self, outcome: Response | SendFailed, tried: int) -> float:
        jitter = full_jitter(
            tried, first=_FIRST_PAUSE, most=_MOST_PAUSE, uniform=self.clock.uniform
        )
        if isinstance(outcome, SendFailed):
            return jitter
        return max(jitter, retry_after(outcome.headers, self.clock.now()) or 0.0)


def _may_pass(outcome: Response | SendFailed) -> bool:
    if isinstance(outcome, SendFailed):
        return outcome.retryable
    return outcome.status in RETRYABLE


def _settled(outcome: Response | SendFailed, tried: int, call: Call) -> Response:
    if isinstance(outcome, Response):
        return outcome
    text = _told(outcome, tried, call)
    if text == str(outcome):
        raise outcome
    raise SendFailed(text, outcome.code, retryable=outcome.retryable) from outcome


def _told(error: SendFailed, tried: int, call: Call) -> str:
    """What happened, how often, and what to do."""
    text = f"{error} (tried {tried} times)" if tried > 1 else str(error)
    advice = _ADVICE.get(error.code)
    if advice is None:
        return text
    # The backend may have it all the same: under this id it stays one job, or one batch.
    again = ", then send it again with the same id" if call.method == "POST" else ""
    return f"{text}: {advice}{again}"
