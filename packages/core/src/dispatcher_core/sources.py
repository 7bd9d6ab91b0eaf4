"""Where settings come from: the environment, ``.env``, and a TOML file."""

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from .envfile import read_env
from .errors import ConfigError
from .parsing import backend_name, backends, nearest
from .settings import SETTINGS, backend_parts, setting_named

__all__ = ["Found", "gather"]

_NAMED = re.compile(r"DISPATCHER_BACKEND_(?P<backend>[A-Z0-9_]+)_(?P<part>URL|SECRET)")
_OWN_FILE = "dispatcher.toml"
_PROJECT_FILE = "pyproject.toml"
_FROM_FILE = "_FILE"
_LARGEST_SECRET_FILE = 65536
_BY_VARIABLE = {setting.variable: setting for setting in SETTINGS.values()}


@dataclass(frozen=True, slots=True)
class Found:
    """A value that a source gives.

    Attributes:
        value: as it stands there; an empty text asks for the default.
        origin: where it stands, for people.
        folder: where its relative paths start.
        file_variable: the variable by which ``value`` is only the name of a file that holds
            the value; empty for a value itself.
    """

    value: object
    origin: str
    folder: Path
    file_variable: str = ""

    def resolved(self) -> "Found":
        """The same with the content of the file, where it names one.

        Raises:
            ConfigError: the file cannot be read, or is no text.
        """
        if not self.file_variable:
            return self
        text = _file_text(self.folder / str(self.value), self.file_variable)
        return replace(self, value=text, file_variable="")


def gather(
    arguments: Mapping[str, object], environ: Mapping[str, str], folder: Path
) -> dict[str, Found]:
    """What all sources give, by the name of the setting (``url``, ``backends.billing.url``).

    Arguments go before the environment, that before ``.env``, and that before the TOML file.

    Args:
        arguments: settings by name.
        environ: the environment variables.
        folder: the working directory.

    Raises:
        ConfigError: a source cannot be read, or is ill-formed. A file with a secret is read
            only where it counts.
    """
    entries = read_env(folder / ".env")
    written = {key: entry.value for key, entry in entries.items()}
    named = environ.get("DISPATCHER_CONFIG") or written.get("DISPATCHER_CONFIG")
    found = _from_toml(named, folder)
    found |= _from_variables(written, folder, lambda key: f".env line {entries[key].line}")
    found |= _from_variables(environ, folder, lambda key: f"environment {key}")
    found |= _flattened(arguments, "argument", folder)
    return {name: item.resolved() for name, item in found.items()}


def _flattened(settings: Mapping[str, object], origin: str, folder: Path) -> dict[str, Found]:
    """Settings by name, with ``backends`` taken apart: ``backends.billing.url`` and so on."""
    found: dict[str, Found] = {}
    for name, value in settings.items():
        if name not in SETTINGS and name != "backends":
            known = nearest(name, [*SETTINGS, "backends"])
            raise ConfigError(f"{origin} has the unknown setting {name!r}{known}")
        parts = {name: value} if name in SETTINGS else _named_parts(value, origin)
        found |= {part: Found(item, origin, folder) for part, item in parts.items()}
    return found


def _named_parts(value: object, origin: str) -> dict[str, object]:
    try:
        return backend_parts(backends(value))
    except ValueError as error:
        raise ConfigError(f"backends, from {origin}: {error}") from None


def _from_variables(
    variables: Mapping[str, str], folder: Path, origin: Callable[[str], str]
) -> dict[str, Found]:
    found: dict[str, Found] = {}
    for variable, text in variables.items():
        name = _setting_of(variable)
        if name is not None:
            found[name] = Found(text, origin(variable), folder)
    for variable, text in variables.items():
        name = _setting_of(variable.removesuffix(_FROM_FILE))
        if not variable.endswith(_FROM_FILE) or name is None or not text:
            continue
        setting = setting_named(name)
        if not setting.hidden:
            continue
        if name in found and found[name].value:
            raise setting.error(
                f"{found[name].origin} and {origin(variable)} are both set: keep one of them, the"
                " value or the name of its file"
            )
        found[name] = Found(text, origin(variable), folder, variable)
    return found


def _setting_of(variable: str) -> str | None:
    if variable in _BY_VARIABLE:
        return _BY_VARIABLE[variable].name
    named = _NAMED.fullmatch(variable)
    if named is None:
        return None
    try:
        return f"backends.{backend_name(named['backend'])}.{named['part'].lower()}"
    except ValueError as error:
        raise ConfigError(f"{variable} {error}") from None


def _file_text(path: Path, variable: str) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_SECRET_FILE + 1)
    except OSError as error:
        raise ConfigError(f"{variable}: cannot read {path}: {error.strerror}") from error
    if len(content) > _LARGEST_SECRET_FILE:
        raise ConfigError(f"{variable}: {path} is over {_LARGEST_SECRET_FILE} bytes, no secret")
    try:
        return content.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise ConfigError(f"{variable}: {path} is not UTF-8") from None


def _from_toml(named: str | None, folder: Path) -> dict[str, Found]:
    candidates = [named] if named else [_OWN_FILE, _PROJECT_FILE]
    found = [folder / name for name in candidates if named or (folder / name).is_file()]
    if not found:
        return {}
    path = found[0]
    settings = _tables(path)
    origin = named or path.name
    if path.name == _PROJECT_FILE:
        settings = _table(_table(settings, "tool", origin), "dispatcher", origin)
    elif "tool" in settings:
        raise ConfigError(
            f"{origin} has a table [tool], which is read in a file named {_PROJECT_FILE} alone:"
            " write what is in [tool.dispatcher] at the top"
        )
    return _flattened(settings, origin, path.parent)


def _tables(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error


def _table(parent: Mapping[str, object], key: str, origin: str) -> dict[str, object]:
    table = parent.get(key, {})
    if not isinstance(table, dict):
        raise ConfigError(f"{origin}: {key!r} must be a table, see [tool.dispatcher]")
    return table
