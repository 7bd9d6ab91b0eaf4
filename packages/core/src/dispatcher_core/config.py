"""The settings of an application, from arguments, environment, ``.env`` and TOML."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ConfigError
from .parsing import Alias, Backend, backend_name, backends
from .settings import (
    DEFAULT_QUEUE_URL,
    SETTINGS,
    backend_parts,
    backend_setting,
    setting_named,
)
from .sources import Found, gather
from .urls import anchored, is_private, without_password

__all__ = ["Alias", "Backend", "Config", "load_config"]

_REDACTED = "********"
_EMPTY = ", empty"
_PLAIN_HTTP = (
    "is plain http to another machine: use https, or set DISPATCHER_ALLOW_HTTP=true where the"
    " network is trusted (payloads can be read there, and answers faked)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The settings. ``Config(...)`` takes arguments and defaults, ``load`` all sources.

    Values may also be given as the text that an environment variable would hold. Durations
    are seconds. Neither secrets nor passwords are in the ``repr``.

    Attributes:
        url: the base URL of the backend; None where this application does not dispatch.
        secret: shared with the backend, or with the applications that dispatch to this one.
        previous_secrets: also accepted when verifying.
        is_backend: whether this application takes jobs.
        modules: modules whose ``@job``s may run.
        aliases: more job names, and what they call.
        queue_url: the queue; its scheme names the plugin. SQLite paths are absolute here.
        max_queued: how many jobs may wait before the receiver refuses more, at least 1; None
            for no limit. A callback counts once it is due.
        sender: the plugin that sends.
        timeout: for one try of a call.
        deadline: for a call with all its tries.
        allow_http: whether plain http may leave this machine.
        retention: how long finished jobs are kept, at least an hour.
        lifespan: a context manager that each worker enters, as ``module:callable``.
        around_job: a context manager around every attempt, as ``module:callable``.
        backends: other backends to dispatch to, by name.

    Raises:
        ConfigError: a value is wrong. One that is missing is an error when it is needed.
    """

    url: str | None = None
    secret: str | None = None
    previous_secrets: Sequence[str] = ()
    is_backend: bool = False
    modules: Sequence[str] = ()
    aliases: Mapping[str, Alias] = field(default_factory=dict)
    queue_url: str = DEFAULT_QUEUE_URL
    max_queued: int | None = None
    sender: str = "urllib"
    timeout: float = 5.0
    deadline: float = 15.0
    allow_http: bool = False
    retention: float = 604800.0
    lifespan: str | None = None
    around_job: str | None = None
    backends: Mapping[str, Backend] = field(default_factory=dict)
    _sources: Mapping[str, str] = field(init=False, compare=False)

    if TYPE_CHECKING:
        # For type checkers, which cannot know that more is taken than what the fields hold.
        def __init__(
            self,
            *,
            url: str | None = ...,
            secret: str | None = ...,
            previous_secrets: Sequence[str] = ...,
            is_backend: bool | str = ...,
            modules: Sequence[str] = ...,
            aliases: Mapping[str, Alias | str | Mapping[str, object]] | str = ...,
            queue_url: str = ...,
            max_queued: int | str | None = ...,
            sender: str = ...,
            timeout: float | str = ...,
            deadline: float | str = ...,
            allow_http: bool | str = ...,
            retention: float | str = ...,
            lifespan: str | None = ...,
            around_job: str | None = ...,
            backends: Mapping[str, Backend | Mapping[str, str]] = ...,
        ) -> None: ...

    def __post_init__(self) -> None:
        sources = {item.name: _origin(item, self) for item in fields(self) if item.init}
        del sources["backends"]
        for setting in SETTINGS.values():
            self._set(setting.name, setting.parsed(getattr(self, setting.name)))
        named = _checked(self.backends)
        self._set("backends", named)
        self._set("_sources", sources | dict.fromkeys(backend_parts(named), "argument"))
        self._check_urls()

    @classmethod
    def load(cls, **overrides: object) -> "Config":
        """The settings from all sources: arguments, environment, ``.env``, TOML, defaults.

        Args:
            overrides: settings that go before all other sources; None means not given.

        Raises:
            ConfigError: a source cannot be read, or a value is wrong or unknown.
        """
        try:
            folder = Path.cwd()
        except FileNotFoundError as error:
            raise ConfigError("the working directory does not exist: enter another one") from error
        return load_config(overrides, os.environ, folder)

    def require(self, setting: str) -> Any:
        """The value of a setting that is needed now.

        Args:
            setting: its name, such as ``url`` or ``backends.billing.url``.

        Raises:
            MissingSetting: it has none (or is false); the text says how to set it.
            ConfigError: there is no such setting.
        """
        known = setting_named(setting)
        value = self._values().get(setting)
        if value:
            return value
        source = self._sources.get(setting, "")
        raise known.missing(f" ({source})" if source.endswith(_EMPTY) else "")

    def for_backend(self, name: str) -> "Config":
        """The settings for a named backend: its url and its secret in place of the unnamed ones.

        Raises:
            MissingSetting: its url or its secret is not set. The unnamed ones do not step in.
            ConfigError: the name cannot be one.
        """
        try:
            known = backend_name(name)
        except ValueError as error:
            raise ConfigError(f"backends: {error}") from None
        parts = {part: f"backends.{known}.{part}" for part in ("url", "secret")}
        values = {part: self.require(path) for part, path in parts.items()}
        config = replace(self, previous_secrets=(), **values)
        sources = {part: self._sources[path] for part, path in parts.items()}
        config._set("_sources", {**self._sources, **sources, "previous_secrets": "default"})
        return config

    def sources(self) -> Mapping[str, str]:
        """Where each value came from, such as ``environment DISPATCHER_BACKEND_URL``.

        The keys are the names of the settings, those of named backends as
        ``backends.billing.url``.
        """
        return dict(self._sources)

    def redacted(self) -> Mapping[str, object]:
        """Each value as JSON may hold it, without secrets; the keys are those of ``sources``."""
        return {name: _shown(name, value) for name, value in self._values().items()}

    def __repr__(self) -> str:
        return (
            f"Config({', '.join(f'{name}={value!r}' for name, value in self.redacted().items())})"
        )

    def _values(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in SETTINGS} | backend_parts(self.backends)

    def _check_urls(self) -> None:
        urls = {"url": self.url} | {
            f"backends.{name}.url": backend.url for name, backend in self.backends.items()
        }
        for name, url in urls.items():
            if url is not None and not self.allow_http and not is_private(url):
                raise setting_named(name).error(_PLAIN_HTTP)

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)


def load_config(
    overrides: Mapping[str, object], environ: Mapping[str, str], folder: Path
) -> Config:
    """The settings from all sources.

    Args:
        overrides: settings that go before all other sources; None means not given.
        environ: the environment variables.
        folder: the working directory, where ``.env`` and ``dispatcher.toml`` are looked for.

    Raises:
        ConfigError: a source cannot be read, or a value is wrong or unknown.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    found = gather(given, environ, folder)
    values = {name: _parsed(name, item) for name, item in found.items() if item.value != ""}
    values.setdefault("queue_url", anchored(DEFAULT_QUEUE_URL, folder))
    config = Config(**_arguments(values))
    origins = {
        name: item.origin if item.value != "" else item.origin + _EMPTY
        for name, item in found.items()
    }
    config._set("_sources", dict.fromkeys(SETTINGS, "default") | origins)
    return config


def _parsed(name: str, item: Found) -> object:
    value = item.value
    if name == "queue_url" and isinstance(value, str):
        value = anchored(value, item.folder)
    return setting_named(name).parsed(value, item.origin)


def _arguments(values: Mapping[str, object]) -> dict[str, Any]:
    """The arguments of ``Config``: dotted names brought together under ``backends``."""
    arguments: dict[str, Any] = {"backends": {}}
    for name, value in values.items():
        if name in SETTINGS:
            arguments[name] = value
            continue
        _, backend, part = name.split(".")
        arguments["backends"].setdefault(backend, {})[part] = value
    return arguments


def _checked(value: object) -> dict[str, Backend]:
    try:
        named = backends(value)
    except ValueError as error:
        raise ConfigError(f"backends: {error}") from None
    return {name: _checked_backend(name, backend) for name, backend in named.items()}


def _checked_backend(name: str, backend: Backend) -> Backend:
    parts: dict[str, Any] = {
        part: backend_setting(name, part).parsed(value) for part, value in asdict(backend).items()
    }
    return Backend(**parts)


def _origin(item: Field[Any], config: Config) -> str:
    default = item.default if item.default_factory is MISSING else item.default_factory()
    return "default" if getattr(config, item.name) == default else "argument"


def _shown(name: str, value: object) -> object:
    if setting_named(name).hidden:
        return [_REDACTED] * len(value) if isinstance(value, tuple) else value and _REDACTED
    if name == "queue_url":
        return without_password(str(value))
    if isinstance(value, Mapping):
        return {key: asdict(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value
