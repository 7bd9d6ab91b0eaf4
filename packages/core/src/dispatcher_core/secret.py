"""The secret generator: ``dispatcher secret``, also ``python -m dispatcher_core.secret``.

With ``--rotate`` the secret before goes on being accepted, so that senders can change one by one.
"""

import argparse
import os
import secrets
import stat
import string
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import parsing
from .atomicfile import replace_file
from .cli import main
from .command import Command
from .envfile import Entry, parse_env, read_env, with_value
from .errors import ConfigError
from .printing import warn

__all__ = ["command", "new_secret"]

SHORTEST, LONGEST = 32, 128

_KEY = "DISPATCHER_BACKEND_SECRET"
_PREVIOUS = "DISPATCHER_BACKEND_PREVIOUS_SECRETS"
_STAGES = ("APP_ENV", "DISPATCHER_ENV")
_ALPHABET = string.ascii_letters + string.digits


def new_secret(length: int) -> str:
    """A random secret of letters and digits, from the operating system's source.

    Args:
        length: in characters; each adds almost 6 bits of randomness.
    """
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--length",
        type=_length,
        default=64,
        metavar="N",
        help=f"characters, {SHORTEST} to {LONGEST} (default 64)",
    )
    parser.add_argument("--show", action="store_true", help="print the secret")
    parser.add_argument(
        "--rotate", action="store_true", help="go on accepting the secret that is replaced"
    )
    parser.add_argument("--no-replace", action="store_true", help="do not touch the file")
    parser.add_argument(
        "--env-file",
        type=Path,
        default=Path(".env"),
        metavar="FILE",
        help="the file to write to (default .env)",
    )
    parser.add_argument("--yes", action="store_true", help="replace an existing secret unasked")


def _length(text: str) -> int:
    if text not in map(str, range(SHORTEST, LONGEST + 1)):
        raise argparse.ArgumentTypeError(f"must be from {SHORTEST} to {LONGEST}, not {text!r}")
    return int(text)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.no_replace and arguments.rotate:
        warn("--rotate writes to the file, which --no-replace forbids: leave one of them out")
        return 2
    if arguments.no_replace and not arguments.show:
        warn("--no-replace alone does nothing: add --show to print a secret")
        return 2
    try:
        files = (arguments.env_file, Path(".env"))
        _refuse_special(files)
        _refuse_production(os.environ, files)
        secret = new_secret(arguments.length)
        if not arguments.no_replace:
            plan = _rotation if arguments.rotate else _replacement
            _write(arguments.env_file, plan, secret, unasked=arguments.yes)
    except ConfigError as error:
        warn(str(error))
        return 1
    if arguments.show:
        print(secret)
    return 0


def _refuse_special(files: Sequence[Path]) -> None:
    """Refuse pipes and devices, whose reading might never end."""
    for path in files:
        try:
            mode = path.stat().st_mode
        except OSError:
            continue  # whoever reads it says so
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise ConfigError(
                f"{path} is not a regular file: put one in its place, or name another with"
                " --env-file"
            )


def _refuse_production(environ: Mapping[str, str], files: Sequence[Path]) -> None:
    settings = [("the environment", dict(environ))]
    for path in files:
        written = {key: entry.value for key, entry in read_env(path).items()}
        settings.append((str(path), written))
    for place, values in settings:
        for key in _STAGES:
            if values.get(key, "").strip().lower() == "production":
                raise ConfigError(
                    f"warning: this is production ({key} in {place}), so no secret was made:"
                    " make one elsewhere, and set it here where your other secrets are set"
                )


@dataclass(frozen=True, slots=True)
class _Change:
    """What is to be written.

    Attributes:
        values: the new value of each key.
        question: asked before; empty where nothing would be lost.
        done: said after.
    """

    values: Mapping[str, str]
    question: str
    done: str


_Plan = Callable[[Path, Mapping[str, Entry], str], _Change]


def _replacement(path: Path, entries: Mapping[str, Entry], secret: str) -> _Change:
    """A new secret, whatever there was before."""
    advice = "remove that line, or put a secret from --show --no-replace into that file"
    _refuse_file(path, entries, _KEY, advice)
    question = (
        f"{path} has a {_KEY} already; what is signed with it will be refused.\nReplace it?"
        if _value(entries, _KEY)
        else ""
    )
    return _Change({_KEY: secret}, question, f"{_KEY} is written to {path.absolute()}")


def _rotation(path: Path, entries: Mapping[str, Entry], secret: str) -> _Change:
    """A new secret, and the one before at the front of those that are accepted as well."""
    advice = f"add that file's content to {_PREVIOUS}, then fill the file from --show --no-replace"
    _refuse_file(path, entries, _KEY, advice)
    advice = f"add the value of {_KEY} to that file, then make a new one without --rotate"
    _refuse_file(path, entries, _PREVIOUS, advice)
    if not _value(entries, _KEY):
        raise ConfigError(
            f"{path} has no {_KEY} to keep: make the first one without --rotate, or rotate where"
            " your secret is set"
        )
    kept = ",".join(_kept(path, entries))
    return _Change(
        {_KEY: secret, _PREVIOUS: kept},
        f"{path} gets a new {_KEY}; the one before goes on being accepted.\nRotate them?",
        f"{_KEY} in {path.absolute()} is new, and the one before is in {_PREVIOUS}: now reload"
        " the receivers, then give the new one to the senders, then remove the one before",
    )


def _kept(path: Path, entries: Mapping[str, Entry]) -> Iterable[str]:
    """The secrets to go on accepting, each once, the newest first."""
    found: list[str] = []
    for key in (_KEY, _PREVIOUS):
        value = _value(entries, key)
        try:
            found += [parsing.secret(value)] if key == _KEY else parsing.secrets(value)
        except ValueError as error:
            # Kept, it would stop the receiver from starting.
            line = entries[key].line
            raise ConfigError(f"{path}, line {line}: {key} cannot be kept: {error}") from None
    return dict.fromkeys(found)


def _value(entries: Mapping[str, Entry], key: str) -> str:
    return entries[key].value if key in entries else ""


def _refuse_file(path: Path, entries: Mapping[str, Entry], key: str, advice: str) -> None:
    file_key = f"{key}_FILE"
    if _value(entries, file_key):
        raise ConfigError(
            f"{path} sets {file_key} in line {entries[file_key].line}, and both forms are not"
            f" allowed: {advice}"
        )


def _write(path: Path, plan: _Plan, secret: str, *, unasked: bool) -> None:
    content = _content(path)
    change = plan(path, parse_env(content, str(path)), secret)
    if change.question and not unasked:
        _ask(path, change.question)
    for key, value in change.values.items():
        content = with_value(content, key, value, str(path))
    replace_file(path, content)
    warn(change.done)
    for key in change.values:
        _warn_of_environment(path, key)


def _warn_of_environment(path: Path, key: str) -> None:
    for variable in (key, f"{key}_FILE"):
        if variable in os.environ:
            warn(f"warning: the environment sets {variable}, which goes before {path}: unset it")


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(
            f"{path} does not exist: create it (touch {path}), name another with --env-file, or"
            " use --show --no-replace"
        ) from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error


def _ask(path: Path, question: str) -> None:
    """Asks a question; any answer but yes refuses."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise ConfigError(f"{path} has a {_KEY} already: add --yes to change it")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    try:
        answer = sys.stdin.readline()
    except KeyboardInterrupt:
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        raise ConfigError("nothing was changed")


command = Command(
    help="make the secret that both sides share",
    example=(
        "examples:\n"
        "  dispatcher secret                                 write one into .env\n"
        "  dispatcher secret --rotate                        go on accepting the one before\n"
        "  dispatcher secret --length 64 --show --no-replace only print one"
    ),
    configure=_configure,
    run=_run,
)

if __name__ == "__main__":
    sys.exit(main(["secret", *sys.argv[1:]]))
