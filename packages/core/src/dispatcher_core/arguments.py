"""Checks the arguments of commands, for ``argparse``."""

import re
from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path

__all__ = ["folder", "seconds", "some_seconds", "whole"]

_MOST = 10**9
_WHOLE = re.compile(r"-?[0-9]{1,18}")


def whole(least: int, most: int = _MOST) -> Callable[[str], int]:
    """A parser of whole numbers within bounds, in ASCII digits."""

    def parse(text: str) -> int:
        if not _WHOLE.fullmatch(text) or not least <= int(text) <= most:
            raise ArgumentTypeError(f"{text!r} is no whole number from {least} to {most}")
        return int(text)

    return parse


def seconds(text: str) -> float:
    """A number of seconds, from 0 to some thirty years."""
    try:
        number = float(text) if text.isascii() and "_" not in text else -1.0
    except ValueError:
        number = -1.0
    if not 0 <= number <= _MOST:  # NaN is not within
        raise ArgumentTypeError(f"{text!r} is no number of seconds from 0 to {_MOST}")
    return number


def some_seconds(text: str) -> float:
    """A number of seconds, more than 0."""
    number = seconds(text)
    if number == 0:
        raise ArgumentTypeError(f"{text!r} seconds are too few")
    return number


def folder(text: str) -> Path:
    """The absolute path of a folder that exists."""
    try:
        path = Path(text).absolute()
        if path.is_dir():
            return path
    except OSError as error:
        raise ArgumentTypeError(f"cannot look at {text!r}: {error.strerror}") from None
    raise ArgumentTypeError(f"{text!r} is no folder")
