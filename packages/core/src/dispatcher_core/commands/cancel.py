"""``dispatcher cancel``: keep a job or a batch from running, or ask it to stop."""

import argparse

from ..command import Command
from ..status import BatchStatus
from .sending import add_backend, add_id, add_json, dispatcher_of, job_or_batch
from .showing import Status, print_status_json

__all__ = ["command"]


def _configure(parser: argparse.ArgumentParser) -> None:
    add_id(parser)
    add_json(parser)
    add_backend(parser)


def _run(arguments: argparse.Namespace) -> int:
    dispatcher = dispatcher_of(arguments)
    status = job_or_batch(arguments.id, dispatcher.cancel, dispatcher.cancel_batch)
    if arguments.json:
        print_status_json(status)
    else:
        print(f"{status.id}: {_outcome(status)}")
    return 0


def _outcome(status: Status) -> str:
    if status.state == "cancelled":
        return "cancelled"
    if status.finished:
        return f"{status.state} already"
    if isinstance(status, BatchStatus):
        jobs = "1 job still runs" if status.pending == 1 else f"{status.pending} jobs still run"
        return f"running, asked to stop ({jobs})"
    return f"{status.state}, asked to stop"


command = Command(
    help="cancel a job or batch that waits, or ask what runs to stop",
    example="example: dispatcher cancel 01981a6e-5f4c-7f3e-8f0a-3b1c2d4e5f60",
    configure=_configure,
    run=_run,
)
