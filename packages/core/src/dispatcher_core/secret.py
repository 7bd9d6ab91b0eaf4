"""The secret generator: ``dispatcher secret``, also ``python -m dispatcher_core.secret``."""

import argparse
import os
import secrets
import string
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from .atomicfile import replace_file
from .cli import main
from .command import Command
from .envfile import Entry, parse_env, read_env, with_value
from .errors import ConfigError

__all__ = ["command", "new_secret"]

SHORTEST, LONGEST = 32, 128

_KEY = "DISPATCHER_BACKEND_SECRET"
_KEY_FILE = f"{_KEY}_FILE"
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
    if not text.isdecimal() or not SHORTEST <= int(text) <= LONGEST:
        raise argparse.ArgumentTypeError(f"must be from {SHORTEST} to {LONGEST}, not {text!r}")
    return int(text)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.no_replace and not arguments.show:
        _say("--no-replace alone does nothing: add --show to print a secret")
        return 2
    try:
        _refuse_production(os.environ, (arguments.env_file, Path(".env")))
        secret = new_secret(arguments.length)
        if not arguments.no_replace:
            _write(arguments.env_file, secret, unasked=arguments.yes)
    except ConfigError as error:
        _say(str(error))
        return 1
    if arguments.show:
        print(secret)
    return 0


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


def _write(path: Path, secret: str, *, unasked: bool) -> None:
    content = _content(path)
    entries = parse_env(content, str(path))
    _check_entries(path, entries)
    if _KEY in entries and entries[_KEY].value and not unasked:
        _ask(path)
    replace_file(path, with_value(content, _KEY, secret, str(path)))
    _say(f"{_KEY} is written to {path.absolute()}")
    for key in (_KEY, _KEY_FILE):
        if key in os.environ:
            _say(f"warning: the environment sets {key}, which goes before {path}: unset it")


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


def _check_entries(path: Path, entries: Mapping[str, Entry]) -> None:
    if _KEY_FILE in entries and entries[_KEY_FILE].value:
        raise ConfigError(
            f"{path} sets {_KEY_FILE} in line {entries[_KEY_FILE].line}, and both forms are not"
            " allowed: remove that line, or put a secret from --show --no-replace into that file"
        )


def _ask(path: Path) -> None:
    """Asks whether to replace the secret; any answer but yes refuses."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise ConfigError(f"{path} has a {_KEY} already: add --yes to replace it")
    print(
        f"{path} has a {_KEY} already; what is signed with it will be refused.\n"
        "Replace it? [y/N] ",
        end="",
        file=sys.stderr,
        flush=True,
    )
    try:
        answer = sys.stdin.readline()
    except KeyboardInterrupt:
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        raise ConfigError("nothing was changed")


def _say(text: str) -> None:
    print(f"dispatcher: {text}", file=sys.stderr)


command = Command(
    help="make the secret that both sides share",
    example=(
        "examples:\n"
        "  dispatcher secret                                 write one into .env\n"
        "  dispatcher secret --length 64 --show --no-replace only print one"
    ),
    configure=_configure,
    run=_run,
)

if __name__ == "__main__":
    sys.exit(main(["secret", *sys.argv[1:]]))
