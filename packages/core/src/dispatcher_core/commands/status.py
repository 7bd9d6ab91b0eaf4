"""``dispatcher status``: what became of a job."""

import argparse
import json
from collections.abc import Iterator

from ..command import Command
from ..dispatcher import Dispatcher
from ..errors import WaitTimeout
from ..status import JobStatus
from ..wire import encode_status, format_time
from .sending import add_backend, add_json, dispatcher_of, print_json, print_table, warn

__all__ = ["command", "print_status"]

_LOOK_EVERY = 1.0


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="the id that dispatching printed")
    parser.add_argument("--watch", action="store_true", help="follow the job until it ended")
    add_json(parser)
    add_backend(parser)


def _run(arguments: argparse.Namespace) -> int:
    dispatcher = dispatcher_of(arguments)
    status = dispatcher.status(arguments.id)
    if arguments.watch and not status.finished:
        _print_step(status, as_json=arguments.json)
        for latest in _changes(dispatcher, status):
            status = latest
            if not status.finished:
                _print_step(status, as_json=arguments.json)
    if arguments.json:
        print_json(encode_status(status))
    else:
        print_status(status)
    return 0


def print_status(status: JobStatus) -> None:
    """Print what is known of a job, for people."""
    rows = {
        "id": status.id,
        "job": status.job,
        "queue": status.queue,
        "state": _state(status),
        "attempt": str(status.attempt),
        "created": format_time(status.created_at),
        "available": format_time(status.available_at) if status.state == "scheduled" else None,
        "started": format_time(status.started_at),
        "finished": format_time(status.finished_at),
        "progress": _progress(status),
        "result": json.dumps(status.result) if status.state == "succeeded" else None,
        "error": _error(status),
    }
    print_table({name: text for name, text in rows.items() if text is not None})


def _changes(dispatcher: Dispatcher, status: JobStatus) -> Iterator[JobStatus]:
    """Each new status of the job, until it ended."""
    trouble = False
    while not status.finished:
        try:
            latest = dispatcher.wait(status.id, _LOOK_EVERY)
        except WaitTimeout as error:
            if error.status is None and not trouble:
                warn(str(error))
            trouble = error.status is None
            latest = error.status or status
        if latest != status:
            yield latest
        status = latest


def _print_step(status: JobStatus, *, as_json: bool) -> None:
    if as_json:
        print_json(encode_status(status))
        return
    parts = (_state(status), f"attempt {status.attempt}", _progress(status))
    print(", ".join(part for part in parts if part), flush=True)


def _state(status: JobStatus) -> str:
    asked = status.cancel_requested and status.state == "running"
    return f"{status.state} (asked to stop)" if asked else status.state


def _progress(status: JobStatus) -> str | None:
    if status.progress is None:
        return None
    return f"{status.progress.done}/{status.progress.total} ({status.progress.percent} %)"


def _error(status: JobStatus) -> str | None:
    if status.error is None:
        return None
    parts = (status.error.code, status.error.type, " ".join(status.error.message.split()))
    return ": ".join(part for part in parts if part)


command = Command(
    help="show what became of a job",
    example="example: dispatcher status 01981a6e-5f4c-7f3e-8f0a-3b1c2d4e5f60 --watch",
    configure=_configure,
    run=_run,
)
