"""The ``dispatcher`` program: its subcommands are the entry points ``dispatcher.commands``."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any, NoReturn, cast

from .command import Command
from .errors import ConfigError, DispatcherError, InvalidJob, PluginNotFound
from .plugins import COMMANDS, load_plugin, plugin_names
from .printing import printable, warn
from .streams import flush, give_up, prepare_streams

__all__ = ["main"]

_DONE, _FAILED, _USAGE = 0, 1, 2
_INTERRUPTED = 130  # 128 + SIGINT, as shells have it
_LONGEST_ERROR = 400


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Args:
        arguments: what follows the program's name; None for those of this process.

    Returns:
        The exit code: 0 done, 1 refused or failed, 2 usage or settings, 130 interrupted.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    prepare_streams()
    try:
        code = _run(words)
        flush(sys.stdout)
        return code
    except (ConfigError, InvalidJob) as error:
        return _fail(str(error), _USAGE)
    except DispatcherError as error:
        return _fail(str(error), _FAILED)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        return _FAILED  # whoever read has gone
    except OSError as error:
        # Commands put every other trouble in words of their own.
        reason = error.strerror or str(error)
        if error.filename:
            return _fail(f"{error.filename}: {reason}", _FAILED)
        return _fail(f"cannot write the output: {reason} (the work itself may be done)", _FAILED)
    finally:
        give_up(sys.stdout)
        give_up(sys.stderr)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and point to its own help."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, and refuse what is left over: no other parser knows more about it."""
        parsed, left_over = super().parse_known_args(args, namespace)
        if left_over:
            self.error(f"unrecognized arguments: {' '.join(left_over)}")
        return parsed, left_over

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and leave with exit code 2."""
        warn(f"{_shortened(printable(message))} (see {self.prog} --help)")
        self.exit(_USAGE)


def _run(words: Sequence[str]) -> int:
    names = _wanted(words)
    commands = dict(_loaded(names))
    try:
        parsed = _parsed(_parser(commands), words)
    except SystemExit as stop:
        return _DONE if stop.code is None else int(stop.code)
    return commands[parsed.command].run(parsed)


def _parsed(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    parsed = parser.parse_args(words)
    if parsed.command is None:  # asked for last, so that an unknown option is named first
        parser.error("the following arguments are required: COMMAND")
    return parsed


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
            warn(str(error))


def _parser(commands: dict[str, Command]) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="dispatcher",
        description="Dispatch jobs between applications over signed HTTP.",
        epilog="example: dispatcher dispatch send-welcome-email --payload '{\"user_id\": 7}'",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=version("dispatcher-core"))
    parsers = parser.add_subparsers(dest="command", metavar="COMMAND")
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


def _shortened(line: str) -> str:
    """The line without its middle where it is long: what is wrong stands at either end."""
    half = _LONGEST_ERROR // 2
    return line if len(line) <= _LONGEST_ERROR else f"{line[:half]} ... {line[-half:]}"


def _fail(reason: str, code: int) -> int:
    warn(reason)
    return code
