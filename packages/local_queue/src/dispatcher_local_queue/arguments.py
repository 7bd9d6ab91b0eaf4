"""Checks the arguments of the commands, for ``argparse``."""

import argparse
from collections.abc import Callable

from dispatcher_core.names import is_name

__all__ = ["add_json", "queue_name", "queue_names", "seconds", "some_seconds", "whole"]


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--json``."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def queue_name(text: str) -> str:
    """The name of a queue."""
    if not is_name(text):
        raise argparse.ArgumentTypeError(f"{text!r} cannot name a queue")
    return text


def queue_names(text: str) -> tuple[str, ...]:
    """The names of queues, separated by commas, each once."""
    return tuple(queue_name(name) for name in dict.fromkeys(text.split(",")))


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """A parser of whole numbers within bounds."""
    bounds = f"from {least} on" if most is None else f"from {least} to {most}"

    def parse(text: str) -> int:
        number = int(text) if text.isascii() and text.isdigit() else -1
        if number < least or (most is not None and number > most):
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number {bounds}")
        return number

    return parse


def seconds(text: str) -> float:
    """A number of seconds from 0 on."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return number


def some_seconds(text: str) -> float:
    """A number of seconds, more than 0."""
    number = seconds(text)
    if number == 0:
        raise argparse.ArgumentTypeError(f"{text!r} seconds are too few")
    return number
