"""What the value of a setting may be, as Python value or as text.

Each function takes a value from an argument, an environment variable or a TOML file, returns
it in its one form, and takes that form too. Each raises a ``ValueError`` whose text says what
the value must be.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, TypeVar

from .backoff import Backoff
from .errors import ConfigError
from .handlers import JobOptions
from .keys import signing_key
from .names import is_name

__all__ = [
    "Alias",
    "Backend",
    "aliases",
    "backend_name",
    "backends",
    "flag",
    "hook",
    "modules",
    "nearest",
    "plugin",
    "seconds",
    "secret",
    "secrets",
    "whole_number",
]

Value = TypeVar("Value")

_FLAGS = dict.fromkeys(("true", "1", "yes", "on"), True) | dict.fromkeys(
    ("false", "0", "no", "off"), False
)
_DOTTED = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")
_HOOK = re.compile(rf"{_DOTTED.pattern}:{_DOTTED.pattern}")
_CALL = re.compile(rf"{_DOTTED.pattern}(?::{_DOTTED.pattern})?")
_NUMBER = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_PLUGIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_BACKEND = re.compile(r"[a-z0-9][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Alias:
    """What a job name stands for.

    Attributes:
        call: what is called, as ``package.module.object`` or ``package.module:object``.
        tries: how often it may be tried in all, at least 1.
        timeout: seconds that one try may take.
        backoff: seconds before the next try; several, whose last repeats.

    What is None is as the mark of the called object says, else as for ``@job``.
    """

    call: str
    tries: int | None = None
    timeout: float | None = None
    backoff: Backoff = None

    def options(self) -> dict[str, Any]:
        """The options that are given, by their names."""
        names = ("tries", "timeout", "backoff")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


@dataclass(frozen=True, slots=True)
class Backend:
    """Another backend to dispatch to, by name.

    Attributes:
        url: its base URL.
        secret: the secret shared with it.
    """

    url: str | None = None
    secret: str | None = field(default=None, repr=False)


def flag(value: object) -> bool:
    """A truth value; as text ``true``, ``1``, ``yes``, ``on``, or their opposites."""
    found = value if not isinstance(value, str) else _FLAGS.get(value.strip().lower())
    if not isinstance(found, bool):
        raise ValueError(f"must be true or false, not {value!r}")
    return found


def seconds(least: float, most: float, wanted: str) -> Callable[[object], float]:
    """A parser of durations from ``least`` to ``most`` seconds, which errors call ``wanted``."""

    def parse(value: object) -> float:
        number = value
        if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
            number = float(value)
        if (
            not isinstance(number, int | float)
            or isinstance(number, bool)
            or not least <= number <= most
        ):
            raise ValueError(f"must be {wanted}, not {value!r}")
        return float(number)

    return parse


def whole_number(least: int, most: int) -> Callable[[object], int]:
    """A parser of whole numbers from ``least`` to ``most``."""

    def parse(value: object) -> int:
        number = value
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,12}", value.strip()):
            number = int(value)
        if not isinstance(number, int) or isinstance(number, bool) or not least <= number <= most:
            raise ValueError(
                f"must be a whole number of at least {least} and at most {most}, not {value!r}"
            )
        return number

    return parse


def secret(value: object) -> str:
    """A secret, see ``signing_key``. Errors never contain it."""
    if not isinstance(value, str):
        raise ValueError("must be text")
    try:
        signing_key(value)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return value


def secrets(value: object) -> tuple[str, ...]:
    """Several secrets; as text separated by commas."""
    if isinstance(value, str):
        value = _split(value)
    if not isinstance(value, Sequence):
        raise ValueError("must be secrets separated by commas, or a list of them")
    return tuple(secret(item) for item in value)


def modules(value: object) -> tuple[str, ...]:
    """Names of modules; as text separated by commas."""
    items = _split(value) if isinstance(value, str) else value
    if not isinstance(items, Sequence):
        raise ValueError(f"must be modules separated by commas, or a list of them, not {value!r}")
    for item in items:
        if not isinstance(item, str) or not _DOTTED.fullmatch(item):
            raise ValueError(f"must be names of modules such as myapp.jobs, not {item!r}")
    return tuple(dict.fromkeys(items))


def plugin(value: object) -> str:
    """The name of a plugin, as its entry point is called."""
    return _matching(value, _PLUGIN, "the name of a plugin, such as urllib")


def hook(value: object) -> str:
    """Something callable in a module, as ``module:callable``."""
    return _matching(value, _HOOK, "module:callable, such as myapp.jobs:lifespan")


def aliases(value: object) -> dict[str, Alias]:
    """Job names and what they call; as text ``sync=lib.sync,report=lib.report``."""
    if isinstance(value, str):
        value = _unique(_pair(item) for item in _split(value))
    if not isinstance(value, Mapping):
        raise ValueError(f"must be name=module.object, separated by commas, not {value!r}")
    found = {}
    for name, target in value.items():
        if not isinstance(name, str) or not is_name(name):
            raise ValueError(f"has {name!r}, which cannot name a job")
        try:
            found[name] = _alias(target)
        except ValueError as error:
            raise ValueError(f"has {name!r}, whose {error}") from None
    return found


def backends(value: object) -> dict[str, Backend]:
    """Named backends: each name with a ``Backend``, or a mapping with ``url`` and ``secret``."""
    if not isinstance(value, Mapping):
        raise ValueError("must be names, each with a url and a secret")
    return _unique((backend_name(name), _backend(name, item)) for name, item in value.items())


def backend_name(value: object) -> str:
    """The name of a backend in lower case, with ``_`` for ``-``, as its variables have it."""
    name = value.lower().replace("-", "_") if isinstance(value, str) else ""
    if not _BACKEND.fullmatch(name):
        raise ValueError(f"has the name {value!r}: use letters, digits, - and _")
    if name == "previous":
        raise ValueError(
            f"has the name {value!r}, too near to DISPATCHER_BACKEND_PREVIOUS_SECRETS"
        )
    return name


def _backend(name: object, value: object) -> Backend:
    if isinstance(value, Backend):
        return value
    if not isinstance(value, Mapping):
        raise ValueError(f"has {name!r} without a url and a secret")
    parts = dict.fromkeys(("url", "secret"))
    for key in value:
        if key not in parts:
            raise ValueError(f"has {name!r} with the unknown key {key!r}{nearest(key, parts)}")
    return Backend(**value)


def _alias(value: object) -> Alias:
    options = asdict(value) if isinstance(value, Alias) else value
    if not isinstance(options, Mapping):
        return Alias(_call(options))
    known = [item.name for item in fields(Alias)]
    for key in options:
        if key not in known:
            raise ValueError(f"key {key!r} is unknown{nearest(key, known)}")
    given = Alias(**{"call": "", **options})
    try:
        JobOptions(**given.options())
        timeout = None if given.timeout is None else float(given.timeout)
    except (ConfigError, OverflowError) as error:
        raise ValueError(str(error)) from None
    backoff = tuple(given.backoff) if isinstance(given.backoff, Sequence) else given.backoff
    return replace(given, call=_call(given.call), timeout=timeout, backoff=backoff)


def _call(value: object) -> str:
    return _matching(value, _CALL, "such as lib.sync or lib:sync", "call ")


def _matching(value: object, pattern: re.Pattern[str], wanted: str, prefix: str = "") -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value.strip()):
        raise ValueError(f"{prefix}must be {wanted}, not {value!r}")
    return value.strip()


def _split(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _pair(text: str) -> tuple[str, str]:
    name, equals, target = text.partition("=")
    if not equals:
        raise ValueError(f"must be name=module.object, separated by commas, not {text!r}")
    return name.strip(), target.strip()


def _unique(pairs: Iterable[tuple[str, Value]]) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"has the name {name!r} twice")
        found[name] = value
    return found


def nearest(name: object, known: Iterable[str]) -> str:
    """A hint at the known name that is most like an unknown one, for the end of an error."""
    names = list(known)
    close = difflib.get_close_matches(str(name).lower(), names, n=1, cutoff=0.5)
    return f": did you mean {close[0]!r}?" if close else f": there are {', '.join(names)}"
