"""Handlers: the functions and classes that jobs run."""

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any, TypeVar, cast, overload

from .backoff import Backoff
from .describing import shown
from .errors import ConfigError, InvalidJob, InvalidPayload
from .names import is_name

__all__ = ["Handler", "JobMark", "JobOptions", "job", "mark_of", "name_of", "qualified_name"]

_LONGEST = 366 * 86400
_MARK = "__dispatcher_job__"
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)

Target = TypeVar("Target", bound=Callable[..., object])


@dataclass(frozen=True, slots=True)
class JobOptions:
    """How a job is tried.

    Attributes:
        tries: how often it may be tried in all, at least 1.
        backoff: seconds before the next try; a sequence of them, whose last repeats; None
            for full jitter from 1 s, doubling, at most 600 s.
        timeout: seconds that one try may take.
        retry_on: the exceptions after which it is tried again.

    Raises:
        ConfigError: one of these is wrong.
    """

    tries: int = 1
    backoff: Backoff = None
    timeout: float = 600.0
    retry_on: type[BaseException] | tuple[type[BaseException], ...] = Exception

    def __post_init__(self) -> None:
        if isinstance(self.tries, bool) or not isinstance(self.tries, int) or self.tries < 1:
            raise ConfigError(f"tries={shown(self.tries)} must be a whole number, at least 1")
        if not _is_number(self.timeout) or not 0 < self.timeout <= _LONGEST:
            raise ConfigError(
                f"timeout={shown(self.timeout)} must be seconds, more than 0, to a year"
            )
        steps = self.backoff if isinstance(self.backoff, Sequence) else (self.backoff or 0,)
        if not steps or not all(_is_number(step) and 0 <= step <= _LONGEST for step in steps):
            raise ConfigError(
                f"backoff={shown(self.backoff)} must be seconds, a list of them, or None"
            )
        classes = self.retry_on if isinstance(self.retry_on, tuple) else (self.retry_on,)
        if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in classes):
            raise ConfigError(f"retry_on={shown(self.retry_on)} must be an exception or several")


@dataclass(frozen=True, slots=True)
class JobMark:
    """What ``@job`` leaves on an object.

    Attributes:
        name: the name given, else the qualified name.
        options: how the job is tried.
    """

    name: str | None
    options: JobOptions


@overload
def job(name: Target, /) -> Target: ...


@overload
def job(
    name: str | None = None,
    *,
    tries: int = 1,
    backoff: Backoff = None,
    timeout: float = 600.0,
    retry_on: type[BaseException] | tuple[type[BaseException], ...] = Exception,
) -> Callable[[Target], Target]: ...


def job(
    name: Any = None,
    *,
    tries: int = 1,
    backoff: Backoff = None,
    timeout: float = 600.0,
    retry_on: type[BaseException] | tuple[type[BaseException], ...] = Exception,
) -> Any:
    """Mark a function, coroutine function or class as a job that may be dispatched.

    The object itself stays as it is and can be called as before. A class is built with the
    payload, then its ``handle()`` is called.

    Args:
        name: the name that it answers to besides its qualified name.
        tries: how often it may be tried in all.
        backoff: seconds before the next try; a list of them, whose last repeats; None for
            full jitter from 1 s, doubling, at most 600 s.
        timeout: seconds that one try may take.
        retry_on: the exceptions after which it is tried again.

    Raises:
        ConfigError: the name or an option is wrong, a class has no ``handle``, or the object
            is neither a function nor a class.
    """
    options = JobOptions(tries, backoff, timeout, retry_on)
    if callable(name):
        return _mark(name, JobMark(None, options))
    if name is not None and not (isinstance(name, str) and is_name(name)):
        raise ConfigError(
            f"@job({shown(name)}) is no name: 1 to 128 characters of A-Z a-z 0-9 _ . : -,"
            " not starting with . : or -"
        )
    return lambda target: _mark(target, JobMark(name, options))


def mark_of(target: object) -> JobMark | None:
    """The mark on an object; one on a base class does not count."""
    # Asking type() and not isinstance() leaves lazy proxies, such as flask.g, alone.
    if not issubclass(type(target), FunctionType | type):
        return None
    mark = vars(target).get(_MARK)
    return mark if isinstance(mark, JobMark) else None


def qualified_name(target: object) -> str:
    """``module.qualname`` of a function or class."""
    return f"{getattr(target, '__module__', None)}.{getattr(target, '__qualname__', None)}"


def name_of(target: object) -> str:
    """The name that a marked callable is dispatched under.

    Raises:
        InvalidJob: it is not marked, or its name is no name elsewhere.
    """
    mark = mark_of(target)
    if mark is None:
        raise InvalidJob(f"{shown(target)} is not marked with @job: mark it, or send its name")
    if mark.name is not None:
        return mark.name
    name = qualified_name(target)
    if name.startswith("__main__.") or "<locals>" in name:
        raise InvalidJob(f"{name} has no name that another program knows: use @job('a-name')")
    return name


@dataclass(frozen=True, slots=True)
class Handler:
    """A callable that runs a job, and how that job is tried.

    Attributes:
        name: its first name.
        target: the function, coroutine function or class.
        options: how the job is tried.
        signature: the target's parameters, None where they cannot be known.
    """

    name: str
    target: Callable[..., object]
    options: JobOptions = field(default_factory=JobOptions)
    signature: inspect.Signature | None = field(init=False, repr=False, compare=False)
    _needed: frozenset[str] = field(init=False, repr=False, compare=False)
    _allowed: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            signature = inspect.signature(self.target)
        except ValueError:  # some callables written in C tell nothing
            signature = None
        parameters = [] if signature is None else list(signature.parameters.values())
        parameters = [each for each in parameters if each.kind not in _VARIABLE]
        needed = frozenset(each.name for each in parameters if each.default is each.empty)
        allowed = frozenset(each.name for each in parameters if each.kind in _BY_NAME)
        object.__setattr__(self, "signature", signature)
        object.__setattr__(self, "_needed", needed)
        object.__setattr__(self, "_allowed", allowed)

    def check(self, payload: Mapping[str, object]) -> None:
        """Check that the payload fits the target's parameters: their names, never types.

        Raises:
            InvalidPayload: it does not.
        """
        # Binding takes ten times as long as to see that it will succeed.
        if self.signature is None or self._needed <= payload.keys() <= self._allowed:
            return
        try:
            self.signature.bind(**payload)
        except TypeError as error:
            raise InvalidPayload(f"the payload does not fit {self.name}: {error}") from None

    def call(self, payload: Mapping[str, object]) -> object:
        """What the target returns; an awaitable where it is asynchronous."""
        made = self.target(**payload)
        if isinstance(self.target, type):
            return cast(Callable[[], object | Awaitable[object]], made.handle)()  # type: ignore[attr-defined]
        return made


def _mark(target: Target, mark: JobMark) -> Target:
    if not isinstance(target, FunctionType | type):
        raise ConfigError(f"@job marks functions and classes, and {shown(target)} is neither")
    if isinstance(target, type) and not callable(getattr(target, "handle", None)):
        raise ConfigError(f"{qualified_name(target)} is a @job class without a handle() method")
    setattr(target, _MARK, mark)
    return target


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
