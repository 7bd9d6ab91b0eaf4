"""``dispatcher config``: publish a commented settings file, show the settings in force."""

import argparse
import json
import os
import textwrap
from pathlib import Path

from ..atomicfile import replace_file
from ..command import Command
from ..config import Config
from ..errors import ConfigError, DispatcherError
from ..printing import warn
from ..settings import SETTINGS, Setting

__all__ = ["command", "template"]

_FILE = Path("dispatcher.toml")
_HEAD = """\
# Settings of Dispatcher. Remove the "# " before a line to set it; what stands there is the
# default, or an example. Arguments, the environment and .env go before this file.
# `dispatcher config show` tells what is in force, and why.
"""
_TABLES = """\
# More job names, and what they call. ({aliases})
# [aliases]
# sync = "lib.sync"
# report = {{call = "lib.report", tries = 3, timeout = 60, backoff = [1, 10, 60]}}

# Other backends, for Dispatcher.from_env(backend="billing"). The secret belongs in the
# environment or .env. (DISPATCHER_BACKEND_BILLING_URL, DISPATCHER_BACKEND_BILLING_SECRET)
# [backends.billing]
# url = "https://billing.example/dispatcher"
"""


def template() -> str:
    """The text of a ``dispatcher.toml`` in which every setting stands as a comment."""
    singles = [_commented(setting) for setting in SETTINGS.values() if setting.name != "aliases"]
    tables = _TABLES.format(aliases=SETTINGS["aliases"].variable)
    return "\n".join((_HEAD, *singles, tables))


def _commented(setting: Setting) -> str:
    text = f"{setting.help} ({setting.variable})"
    lines = textwrap.wrap(text, 95)
    if setting.example:
        lines.append(f"{setting.name} = {setting.example}")
    return "".join(f"# {line}\n" for line in lines)


def _configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="publish | show")
    publish = actions.add_parser(
        "publish",
        help="write a commented dispatcher.toml into the working directory",
        epilog="example: dispatcher config publish",
    )
    publish.add_argument("--force", action="store_true", help="replace an existing one")
    show = actions.add_parser(
        "show",
        help="print each setting and where it came from, without secrets",
        epilog="example: dispatcher config show --json",
    )
    show.add_argument("--json", action="store_true", help="print one JSON object")


def _run(arguments: argparse.Namespace) -> int:
    if arguments.action == "publish":
        return _publish(force=arguments.force)
    return _show(as_json=arguments.json)


def _publish(*, force: bool) -> int:
    content = template().encode()
    try:
        with _FILE.open("xb") as file:
            file.write(content)
    except FileExistsError:
        if not force:
            raise DispatcherError(f"{_FILE} exists: add --force to replace it") from None
        _replace(content)
    except OSError as error:
        raise DispatcherError(f"cannot write {_FILE}: {error.strerror}") from error
    print(f"{_FILE.absolute()} is written")
    _warn_of_others()
    return 0


def _replace(content: bytes) -> None:
    try:
        replace_file(_FILE, content)
    except ConfigError as error:  # no setting is wrong here: the file refuses
        raise DispatcherError(str(error)) from error


def _warn_of_others() -> None:
    """Says so where the new file is not read, or keeps another one from being read."""
    named = os.environ.get("DISPATCHER_CONFIG")
    if named:
        warn(f"warning: DISPATCHER_CONFIG names {named} instead")
    project = Path("pyproject.toml")
    if project.is_file() and b"[tool.dispatcher" in project.read_bytes():
        warn(
            f"warning: [tool.dispatcher] in {project} is not read beside {_FILE}:"
            " move its settings there"
        )


def _show(*, as_json: bool) -> int:
    config = Config.load()
    values, sources = config.redacted(), config.sources()
    if as_json:
        shown = {name: {"value": value, "source": sources[name]} for name, value in values.items()}
        print(json.dumps(shown, indent=2))
        return 0
    texts = {name: json.dumps(value) for name, value in values.items()}
    widths = max(map(len, texts)), max(map(len, texts.values()))
    for name, text in texts.items():
        print(f"{name:{widths[0]}}  {text:{widths[1]}}  {sources[name]}")
    return 0


command = Command(
    help="publish a settings file, or show the settings in force",
    example="example: dispatcher config show",
    configure=_configure,
    run=_run,
)
