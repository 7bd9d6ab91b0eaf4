"""The ``dispatcher`` program: its subcommands are the entry points ``dispatcher.commands``."""

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import NoReturn, cast

from .command import Command
from .errors import ConfigError, DispatcherError, InvalidJob, PluginNotFound
from .plugins import COMMANDS, load_plugin, plugin_names

__all__ = ["main"]

_DONE, _FAILED, _USAGE = 0, 1, 2
_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Args:
        arguments: what follows the program's name; None for those of this process.

    Returns:
        The exit code: 0 done, 1 refused or failed, 2 usage or settings, 130 interrupted.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = _run(words)
        sys.stdout.flush()
        return code
    except (ConfigError, InvalidJob) as error:
        return _fail(error, _USAGE)
    except DispatcherError as error:
        return _fail(error, _FAILED)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read has gone. Python would complain once more when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _FAILED


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and leave with exit code 2."""
        line = " ".join(message.split())
        self.exit(_USAGE, f"dispatcher: {line} (see {self.prog} --help)\n")


def _run(words: Sequence[str]) -> int:
    names = _wanted(words)
    commands = dict(_loaded(names))
    try:
        parsed = _parser(commands).parse_args(words)
    except SystemExit as stop:
        return _DONE if stop.code is None else int(stop.code)
    return commands[parsed.command].run(parsed)


def _wanted(words: Sequence[str]) -> tuple[str, ...]:
    """The one command that is asked for, so that no other is loaded; else all of them."""
    return (words[0],) if words and not words[0].startswith("-") else plugin_names(COMMANDS)


def _loaded(names: Sequence[str]) -> Iterable[tuple[str, Command]]:
    for name in names:
        try:
            yield name, cast(Command, load_plugin(COMMANDS, name))
        except PluginNotFound as error:
            # One broken package must not keep the list of commands from being shown.
            if len(names) == 1:
                raise
            _fail(error, _USAGE)


def _parser(commands: dict[str, Command]) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="dispatcher",
        description="Dispatch jobs between applications over signed HTTP.",
        epilog="example: dispatcher dispatch send-welcome-email --payload '{\"user_id\": 7}'",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=version("dispatcher-core"))
    parsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in commands.items():
        own = parsers.add_parser(
            name,
            help=command.help,
            description=f"{command.help[:1].upper()}{command.help[1:]}.",
            epilog=command.example,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.configure(own)
    return parser


def _fail(error: DispatcherError, code: int) -> int:
    print("dispatcher:", " ".join(str(error).split()), file=sys.stderr)
    return code
