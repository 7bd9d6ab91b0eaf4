"""Checks the arguments of the commands, for ``argparse``."""

import argparse

from dispatcher_core.names import is_id, is_name

__all__ = ["add_json", "job_id", "queue_name", "queue_names"]


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--json``."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def job_id(text: str) -> str:
    """The id of a job."""
    if not is_id(text):
        raise argparse.ArgumentTypeError(f"{text!r} cannot be an id")
    return text


def queue_name(text: str) -> str:
    """The name of a queue."""
    if not is_name(text):
        raise argparse.ArgumentTypeError(f"{text!r} cannot name a queue")
    return text


def queue_names(text: str) -> tuple[str, ...]:
    """The names of queues, separated by commas, each once."""
    return tuple(queue_name(name) for name in dict.fromkeys(text.split(",")))
