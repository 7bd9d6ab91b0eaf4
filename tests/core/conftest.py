"""What several of core's tests share: a sender with prepared answers, and a clock."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dispatcher_core import Dispatcher, Request, Response, Signer
from dispatcher_core.delivery import Clock, Delivery

SECRET = "A1b2" * 16
URL = "https://backend.test/base"


@dataclass
class ManualClock:
    """A clock that stands still until something sleeps, or a test moves it."""

    now: float = 1_700_000_000.25
    elapsed: float = 0.0
    slept: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        """Let the time pass at once."""
        self.slept.append(seconds)
        self.advance(seconds)

    async def sleep_async(self, seconds: float) -> None:
        """Let the time pass at once."""
        self.sleep(seconds)

    def advance(self, seconds: float) -> None:
        """Let the time pass, without anybody sleeping."""
        self.now += seconds
        self.elapsed += seconds

    def clock(self) -> Clock:
        """What the code under test takes; its chance is always the upper bound."""
        return Clock(
            now=lambda: self.now,
            monotonic=lambda: self.elapsed,
            sleep=self.sleep,
            sleep_async=self.sleep_async,
            uniform=lambda low, high: high,
        )


@dataclass
class PreparedSender:
    """A sender that gives prepared answers in order, the last one again and again.

    An answer may be a response, an exception to raise, or a function of the request.
    """

    time: ManualClock
    answers: list[Any] = field(default_factory=list)
    takes: float = 0.0
    requests: list[Request] = field(default_factory=list)
    timeouts: list[float] = field(default_factory=list)

    def send(self, request: Request, timeout: float) -> Response:
        """The next answer."""
        self.requests.append(request)
        self.timeouts.append(timeout)
        self.time.advance(self.takes)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer(request) if callable(answer) else answer


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory and an environment without settings."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("DISPATCHER_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def manual_clock() -> ManualClock:
    """A clock that stands still."""
    return ManualClock()


@pytest.fixture
def sender(manual_clock: ManualClock) -> PreparedSender:
    """A sender whose ``answers`` the test fills."""
    return PreparedSender(manual_clock)


@pytest.fixture
def delivery(manual_clock: ManualClock, sender: PreparedSender) -> Delivery:
    """A delivery to the prepared sender, 5 s for a try and 15 s for a call."""
    return Delivery(
        URL, Signer(SECRET), sender, timeout=5.0, deadline=15.0, clock=manual_clock.clock()
    )


@pytest.fixture
def dispatcher(delivery: Delivery, monkeypatch: pytest.MonkeyPatch) -> Dispatcher:
    """A dispatcher that uses the delivery above."""
    dispatcher = Dispatcher()
    monkeypatch.setattr(dispatcher, "_delivery", lambda: delivery)
    return dispatcher


@pytest.fixture
def answer() -> Callable[..., Response]:
    """Makes a response with a JSON object in it."""

    def make(status: int, headers: Mapping[str, str] | None = None, **members: Any) -> Response:
        fields = {"content-type": "application/json", **(headers or {})}
        return Response(status, fields, json.dumps(members).encode())

    return make


@pytest.fixture
def problem() -> Callable[..., Response]:
    """Makes a response with a problem document in it."""

    def make(
        status: int, code: str, headers: Mapping[str, str] | None = None, **members: Any
    ) -> Response:
        fields = {"content-type": "application/problem+json; charset=utf-8", **(headers or {})}
        content = {"type": "about:blank", "status": status, "code": code, **members}
        return Response(status, fields, json.dumps(content).encode())

    return make
