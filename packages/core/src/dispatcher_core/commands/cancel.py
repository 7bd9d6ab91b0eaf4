"""``dispatcher cancel``: keep a job from running, or ask it to stop."""

import argparse

from ..command import Command
from ..status import JobStatus
from ..wire import encode_status
from .sending import add_backend, add_json, dispatcher_of, print_json

__all__ = ["command"]


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="the id that dispatching printed")
    add_json(parser)
    add_backend(parser)


def _run(arguments: argparse.Namespace) -> int:
    status = dispatcher_of(arguments).cancel(arguments.id)
    if arguments.json:
        print_json(encode_status(status))
    else:
        print(f"{status.id}: {_outcome(status)}")
    return 0


def _outcome(status: JobStatus) -> str:
    if status.state == "cancelled":
        return "cancelled"
    if status.finished:
        return f"{status.state} already"
    return f"{status.state}, asked to stop"


command = Command(
    help="cancel a job that waits, or ask a running one to stop",
    example="example: dispatcher cancel 01981a6e-5f4c-7f3e-8f0a-3b1c2d4e5f60",
    configure=_configure,
    run=_run,
)
