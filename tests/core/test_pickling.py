import copy
import pickle
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context

import pytest

from dispatcher_core import (
    BatchClosed,
    BatchFault,
    Cancelled,
    Config,
    ConfigError,
    DeliveryError,
    DispatcherError,
    Fail,
    IdReused,
    InvalidJob,
    InvalidPayload,
    JobLoadError,
    JobStatus,
    JobTimeout,
    MissingSetting,
    NoCurrentJob,
    NotFound,
    PluginNotFound,
    QueueError,
    QueueFull,
    QueueUnavailable,
    RequestError,
    Result,
    Retry,
    SendFailed,
    SignatureError,
    UnknownJob,
    WaitTimeout,
)

STATUS = JobStatus(
    id="a", job="j", queue="q", state="running", result={"n": [1]}, created_at=datetime.now(UTC)
)
FAULT = BatchFault(3, "unknown-job", "no job is registered as 'x'")


class Declined(Fail):
    """An outcome of an application's own, whose arguments are no message."""

    def __init__(self, card: int, *, reason: str) -> None:
        super().__init__(f"card {card}: {reason}")
        self.card = card


class Unreachable(Fail, OSError):
    """An outcome of an application's own that is an exception of Python's too."""


class Several(Fail, ExceptionGroup):
    """Likewise, of one whose class must be given something."""


EXCEPTIONS = [
    DispatcherError("it broke"),
    ConfigError("it is wrong"),
    MissingSetting("set it", "url"),
    PluginNotFound("install it", "redis", ["sqlite", "memory"]),
    JobLoadError("it does not import", "shop.jobs"),
    InvalidJob("no such queue"),
    RequestError("too many", "too-large"),
    SignatureError("too old", "timestamp-out-of-range"),
    UnknownJob("greet"),
    InvalidPayload("it does not fit"),
    DeliveryError("later", "queue-full", status=429, retry_after=2.5, errors=[FAULT]),
    SendFailed("no TLS", "tls-failed", retryable=False),
    NotFound("no such job"),
    WaitTimeout("still running", STATUS),
    QueueError("it cannot"),
    QueueUnavailable("locked"),
    QueueFull("full"),
    IdReused("abc"),
    BatchClosed("finished"),
    NoCurrentJob("none runs"),
    Retry(5),
    Retry(timedelta(minutes=1)),
    Fail("for good"),
    Fail(),
    Cancelled(),
    JobTimeout("too long"),
    Declined(7, reason="expired"),
    Unreachable(2, "nope"),
]
each_exception = pytest.mark.parametrize("error", EXCEPTIONS, ids=repr)


def assert_same(made: BaseException, error: BaseException) -> None:
    """Check that one exception is as good as the other."""
    assert made is not error
    assert type(made) is type(error)
    assert (str(made), made.args) == (str(error), error.args)
    assert getattr(made, "code", None) == getattr(error, "code", None)
    assert vars(made) == vars(error)


def our_errors(kind: type[DispatcherError]) -> set[type[DispatcherError]]:
    """The class and all that are derived from it in this package."""
    kinds = {kind}.union(*(our_errors(inner) for inner in kind.__subclasses__()))
    return {each for each in kinds if each.__module__.startswith("dispatcher_core.")}


def test_every_error_is_tried_here():
    """The list above has every error of the tree."""
    assert our_errors(DispatcherError) - set(map(type, EXCEPTIONS)) == set()


@each_exception
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_exception_is_pickled_whole(error, protocol):
    """Class, text, code and every attribute come back, whatever ``__init__`` takes."""
    assert_same(pickle.loads(pickle.dumps(error, protocol)), error)  # noqa: S301


@each_exception
def test_an_exception_is_copied_whole(error):
    """So it is with ``copy``."""
    assert_same(copy.copy(error), error)
    assert_same(copy.deepcopy(error), error)


def test_what_was_added_to_an_exception_is_kept():
    """Notes, and attributes that somebody set, are pickled too."""
    error = WaitTimeout("still queued", None)
    error.add_note("asked by the nightly run")
    error.tries = 3  # type: ignore[attr-defined]
    made = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (made.__notes__, made.tries) == (["asked by the nightly run"], 3)
    assert isinstance(made, TimeoutError)


def test_a_group_is_pickled_whole():
    """The exceptions in it come along."""
    made = pickle.loads(pickle.dumps(Several("two", [ValueError("a"), OSError(2, "b")])))  # noqa: S301
    assert (type(made), str(made)) == (Several, "two (2 sub-exceptions)")
    assert [(type(each), each.args) for each in made.exceptions] == [
        *((ValueError, ("a",)), (FileNotFoundError, (2, "b"))),
    ]


def test_errors_come_out_of_another_process():
    """A worker of a process pool raises them here, and the pool stays in use."""
    error = DeliveryError("later", "queue-full", status=429, retry_after=2.5)
    refused = Result(id="a", ids=("a",), error=error)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        raised = [
            call.exception()
            for call in (
                pool.submit(Config().require, "url"),
                pool.submit(refused.raise_for_error),
            )
        ]
    assert (type(raised[0]), raised[0].setting) == (MissingSetting, "url")
    assert_same(raised[1], error)
