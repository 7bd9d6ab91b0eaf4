"""Every setting: its names, what it takes, and how to set it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from . import parsing
from .errors import ConfigError, MissingSetting
from .parsing import Backend, nearest
from .urls import backend_url, queue_url

__all__ = [
    "DEFAULT_QUEUE_URL",
    "SETTINGS",
    "Setting",
    "backend_parts",
    "backend_setting",
    "setting_named",
]

DEFAULT_QUEUE_URL = "sqlite:///dispatcher.sqlite3"

_DAY = 86400
_BILLION = 10**9


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting.

    Attributes:
        name: as a field of ``Config`` and as a key of ``dispatcher.toml``.
        variable: its environment variable.
        parse: takes a value or its text, returns the value; raises ``ValueError``.
        example: a value in TOML, the default where there is one.
        help: what it is for, in one line.
        optional: whether None is a value of it.
        hidden: whether it is never shown, and may come from a file (``<variable>_FILE``).
        hint: what a message adds that it is missing.
    """

    name: str
    variable: str
    parse: Callable[[object], object]
    example: str
    help: str
    optional: bool = False
    hidden: bool = False
    hint: str = ""

    def parsed(self, value: object, origin: str = "") -> object:
        """The value in its one form.

        Args:
            value: the value, or its text.
            origin: where it came from, for the error.

        Raises:
            ConfigError: it is not a value for this setting.
        """
        if self.optional and (value is None or value == ""):
            return None
        try:
            return self.parse(value)
        except ValueError as error:
            raise self.error(str(error), origin) from None

    def error(self, problem: str, origin: str = "") -> ConfigError:
        """An error about its value, such as ``must be a number``."""
        source = f", from {origin}" if origin else ""
        return ConfigError(f"{self.name} ({self.variable}{source}): {problem}")

    def missing(self, note: str = "") -> MissingSetting:
        """The error that it has no value.

        Args:
            note: why that is, if more can be said.
        """
        argument = self.name.partition(".")[0]
        return MissingSetting(
            f"{self.name} is not set{note}: set {self.variable} in the environment or .env, or"
            f" `{self.name}` in dispatcher.toml, or pass Config({argument}=...){self.hint}",
            self.name,
        )


def setting_named(name: str) -> Setting:
    """The setting of this name, also of a named backend such as ``backends.billing.url``.

    Raises:
        ConfigError: there is none.
    """
    if name in SETTINGS:
        return SETTINGS[name]
    parent, _, rest = name.partition(".")
    backend, _, part = rest.rpartition(".")
    if parent == "backends" and backend and part in ("url", "secret"):
        return backend_setting(backend, part)
    raise ConfigError(f"there is no setting {name!r}{nearest(name, [*SETTINGS, 'backends'])}")


def backend_setting(backend: str, part: str) -> Setting:
    """The setting ``url`` or ``secret`` of a named backend."""
    return replace(
        SETTINGS[part],
        name=f"backends.{backend}.{part}",
        variable=f"DISPATCHER_BACKEND_{backend.upper()}_{part.upper()}",
        hint="",
    )


def backend_parts(backends: Mapping[str, Backend]) -> dict[str, object]:
    """What named backends have, by the names of the settings: ``backends.billing.url``."""
    return {
        f"backends.{name}.{part}": value
        for name, backend in backends.items()
        for part, value in (("url", backend.url), ("secret", backend.secret))
        if value is not None
    }


_ALL = (
    Setting(
        "url",
        "DISPATCHER_BACKEND_URL",
        backend_url,
        '"https://app-b.example/dispatcher"',
        "Where jobs are sent: the backend's base URL. Needed to dispatch.",
        optional=True,
    ),
    Setting(
        "secret",
        "DISPATCHER_BACKEND_SECRET",
        parsing.secret,
        "",
        "Shared by both sides. Keep it out of files that are committed.",
        optional=True,
        hidden=True,
        hint=" (`dispatcher secret` makes one)",
    ),
    Setting(
        "previous_secrets",
        "DISPATCHER_BACKEND_PREVIOUS_SECRETS",
        parsing.secrets,
        "",
        "Secrets that still verify while the senders change to a new one.",
        hidden=True,
    ),
    Setting(
        "is_backend",
        "DISPATCHER_IS_BACKEND",
        parsing.flag,
        "false",
        "Whether this application takes jobs; the receiver refuses to start without it.",
        hint=", to true where this application takes jobs",
    ),
    Setting(
        "modules",
        "DISPATCHER_MODULES",
        parsing.modules,
        '["myapp.jobs"]',
        "Modules whose @job functions and classes may run.",
    ),
    Setting(
        "aliases",
        "DISPATCHER_ALIASES",
        parsing.aliases,
        "",
        "More job names, and what they call.",
    ),
    Setting(
        "queue_url",
        "DISPATCHER_QUEUE_URL",
        queue_url,
        f'"{DEFAULT_QUEUE_URL}"',
        "The backend's queue; a relative path starts at the folder of this file.",
    ),
    Setting(
        "max_queued",
        "DISPATCHER_MAX_QUEUED",
        parsing.whole_number(1, _BILLION),
        "100000",
        "How many jobs may wait before the receiver refuses more (429); no limit if not set.",
        optional=True,
    ),
    Setting(
        "sender",
        "DISPATCHER_SENDER",
        parsing.plugin,
        '"urllib"',
        "The plugin that sends: urllib or requests.",
    ),
    Setting(
        "timeout",
        "DISPATCHER_TIMEOUT",
        parsing.seconds(0.001, _DAY, "seconds, more than 0, at most a day"),
        "5",
        "Seconds for one try of a call.",
    ),
    Setting(
        "deadline",
        "DISPATCHER_DEADLINE",
        parsing.seconds(0.001, _DAY, "seconds, more than 0, at most a day"),
        "15",
        "Seconds for a call with all its tries.",
    ),
    Setting(
        "allow_http",
        "DISPATCHER_ALLOW_HTTP",
        parsing.flag,
        "false",
        "Whether plain http may leave this machine: payloads can be read, answers faked.",
    ),
    Setting(
        "retention",
        "DISPATCHER_RETENTION",
        parsing.seconds(3600, 36525 * _DAY, "seconds, at least 3600 (an hour)"),
        "604800",
        "Seconds for which finished jobs are kept.",
    ),
    Setting(
        "lifespan",
        "DISPATCHER_LIFESPAN",
        parsing.hook,
        '"myapp.jobs:lifespan"',
        "A context manager that each worker process enters once.",
        optional=True,
    ),
    Setting(
        "around_job",
        "DISPATCHER_AROUND_JOB",
        parsing.hook,
        '"myapp.jobs:around_job"',
        "A context manager around every attempt of a job.",
        optional=True,
    ),
)

SETTINGS: Mapping[str, Setting] = MappingProxyType({setting.name: setting for setting in _ALL})
"""All but the named backends, by name."""
