import asyncio
import functools
from dataclasses import dataclass
from typing import Any

import pytest

from dispatcher_core import ConfigError, Handler, InvalidJob, InvalidPayload, job
from dispatcher_core.handlers import JobOptions, mark_of, name_of, qualified_name


@job
def add(a: int, b: int = 1) -> int:
    """Adds."""
    return a + b


@job("send", tries=5, backoff=[1, 10], timeout=30, retry_on=(OSError, ValueError))
def send(to: str) -> str:
    """Pretends to send."""
    return to


@job("later")
async def later(number: int) -> int:
    """Adds, some time."""
    return number + 1


@job
@dataclass
class Resize:
    """A class handler."""

    width: int
    height: int = 10

    def handle(self) -> int:
        """The area."""
        return self.width * self.height


@job("load")
class Load:
    """A class handler that is asynchronous."""

    def __init__(self, *, url: str) -> None:
        self.url = url

    async def handle(self) -> str:
        """The URL."""
        return self.url


class Bigger(Resize):
    """A subclass of a job is no job."""


def test_a_marked_object_stays_as_it_is():
    """A job can be called as before."""
    assert add(1) == 2
    assert asyncio.run(later(1)) == 2
    assert Resize(2).handle() == 20


def test_marks_have_defaults():
    """Without options a job is tried once, for at most 600 s."""
    mark = mark_of(add)
    assert mark is not None
    assert mark.name is None
    assert mark.options == JobOptions(tries=1, backoff=None, timeout=600.0, retry_on=Exception)


def test_marks_keep_their_options():
    """Options are kept as they were given."""
    mark = mark_of(send)
    assert mark is not None
    assert mark.name == "send"
    assert mark.options == JobOptions(5, [1, 10], 30, (OSError, ValueError))


def test_a_job_may_have_options_without_a_name():
    """``@job(tries=3)`` keeps the qualified name."""

    @job(tries=3)
    def retried() -> None:
        """Tried three times."""

    mark = mark_of(retried)
    assert mark is not None
    assert (mark.name, mark.options.tries) == (None, 3)


def test_a_name_may_be_given_by_keyword():
    """``@job(name="send", tries=3)`` is ``@job("send", tries=3)``."""
    mark = mark_of(job(name="send", tries=3)(lambda: None))
    assert (mark.name, mark.options.tries) == ("send", 3)


def test_options_count_where_the_job_is_given_too():
    """``job(function, tries=3)`` marks the function, and keeps the options."""
    assert mark_of(job(lambda: None, tries=3)).options.tries == 3


@pytest.mark.parametrize(
    "thing", [Bigger, Resize(1), len, "send", None, 7, functools.partial(add)]
)
def test_nothing_else_has_a_mark(thing):
    """A subclass does not inherit the mark, nor has an instance it."""
    assert mark_of(thing) is None


def test_a_mark_is_read_without_waking_proxies():
    """An object that pretends to be another is not looked into."""

    def woken(self, *name):
        raise AssertionError(f"something was asked for: {name}")

    members = {"__getattr__": woken, "__class__": property(woken)}
    assert mark_of(type("Proxy", (), members)()) is None


def test_names():
    """A job is named as it is marked, else by module and qualified name."""
    assert name_of(send) == "send"
    assert name_of(Resize) == qualified_name(Resize) == f"{__name__}.Resize"
    with pytest.raises(InvalidJob):
        name_of(Bigger)


@pytest.mark.parametrize("name", ["", "a b", ".a", "é", "x" * 129, 7, b"a"])
def test_a_job_needs_a_name_that_can_be_sent(name):
    """A name that cannot go over the wire is refused where it is written."""
    with pytest.raises(ConfigError, match="is no name"):
        job(name)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"tries": 0}, "tries=0"),
        ({"tries": -1}, "tries=-1"),
        ({"tries": 1.5}, "tries=1.5"),
        ({"tries": True}, "tries=True"),
        ({"tries": None}, "tries=None"),
        ({"tries": float("inf")}, "tries=inf"),
        ({"timeout": 0}, "timeout=0"),
        ({"timeout": -1}, "timeout=-1"),
        ({"timeout": float("inf")}, "timeout=inf"),
        ({"timeout": float("nan")}, "timeout=nan"),
        ({"timeout": "30"}, "timeout='30'"),
        ({"timeout": None}, "timeout=None"),
        ({"backoff": -1}, "backoff=-1"),
        ({"backoff": []}, r"backoff=\[\]"),
        ({"backoff": [1, "2"]}, "backoff="),
        ({"backoff": "12"}, "backoff='12'"),
        ({"backoff": {1}}, "backoff="),
        ({"backoff": [float("nan")]}, "backoff="),
        ({"backoff": [1e12]}, "backoff="),
        ({"retry_on": ValueError()}, "retry_on="),
        ({"retry_on": [OSError]}, "retry_on="),
        ({"retry_on": (OSError, "x")}, "retry_on="),
        ({"retry_on": int}, "retry_on="),
        ({"timeout": 10**5000}, r"timeout=\(int\)"),
    ],
)
def test_a_wrong_option_is_refused(options, problem):
    """An option that makes no sense is refused where it is written, by its name."""
    with pytest.raises(ConfigError, match=problem):
        job("a", **options)


def test_an_unknown_option_is_refused():
    """A misspelt option is an error, not ignored."""
    with pytest.raises(TypeError, match=r"^job\(\) got .* 'retries'"):
        job("a", retries=3)  # type: ignore[call-overload]


def test_only_functions_and_classes_are_jobs():
    """What cannot keep a mark of its own is refused."""
    for thing in (len, functools.partial(add), Resize(1).handle, staticmethod(add)):
        with pytest.raises(ConfigError, match="functions and classes"):
            job("a")(thing)


def test_a_class_needs_handle():
    """A class without ``handle`` is refused where it is marked."""
    with pytest.raises(ConfigError, match=r"handle\(\)"):

        @job
        class Idle:
            """Does nothing."""


@pytest.mark.parametrize(
    ("target", "payload"),
    [
        (add, {"a": 1}),
        (add, {"a": "types do not matter", "b": None}),
        (Resize, {"width": 1}),
        (Load, {"url": "x"}),
        (later, {"number": 1}),
        (lambda **anything: None, {"whatever": 1, "self": 2}),
    ],
)
def test_a_payload_that_fits(target, payload):
    """Names decide whether a payload fits, types never."""
    Handler("a", target).check(payload)


def test_a_callable_that_tells_nothing_takes_anything():
    """Where the parameters cannot be known, the payload is not refused."""
    handler = Handler("a", min)
    assert handler.signature is None
    handler.check({"whatever": 1})


def positional(a: int, /) -> None:
    """Takes no keyword argument."""


@pytest.mark.parametrize(
    ("target", "payload"),
    [
        (add, {}),
        (add, {"a": 1, "c": 2}),
        (add, {"a": 1, "": 2}),
        (Resize, {"height": 1}),
        (Resize, {"width": 1, "self": 2}),
        (Load, {}),
        (positional, {"a": 1}),
    ],
)
def test_a_payload_that_does_not_fit(target, payload):
    """A missing or unknown argument is refused before the job runs."""
    with pytest.raises(InvalidPayload, match="does not fit a-name: "):
        Handler("a-name", target).check(payload)


def test_calling_a_handler():
    """A function gets the payload; of a class, ``handle()`` of an instance is called."""
    assert Handler("a", add).call({"a": 1, "b": 5}) == 6
    assert Handler("a", Resize).call({"width": 3}) == 30


def test_calling_an_asynchronous_handler():
    """A coroutine function, and an ``async handle()``, give something to await."""

    async def both():
        calls: list[Any] = [
            Handler("a", later).call({"number": 1}),
            Handler("a", Load).call({"url": "x"}),
        ]
        return tuple([await call for call in calls])

    assert asyncio.run(both()) == (2, "x")
