"""``dispatcher status``: what became of a job or a batch."""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..command import Command
from ..dispatcher import Dispatcher
from ..errors import WaitTimeout
from ..printing import warn
from ..progressbar import ProgressBar
from ..status import BatchStatus, JobStatus
from .sending import add_backend, add_id, add_json, dispatcher_of, job_or_batch
from .showing import Status, bad_ends, print_status, print_status_json, print_step

__all__ = ["command"]

_LOOK_EVERY = 1.0


def _configure(parser: argparse.ArgumentParser) -> None:
    add_id(parser)
    parser.add_argument(
        "--watch",
        action="store_true",
        help="follow it until it ended; with --json, print an object in a line for each change",
    )
    add_json(parser)
    add_backend(parser)


def _run(arguments: argparse.Namespace) -> int:
    dispatcher = dispatcher_of(arguments)
    status = job_or_batch(arguments.id, dispatcher.status, dispatcher.batch_status)
    if arguments.watch and not status.finished:
        with _steps(status, as_json=arguments.json) as show:
            status = _watched(dispatcher, status, show)
    if arguments.json:
        print_status_json(status)
    else:
        print_status(status)
    return 0


def _watched(dispatcher: Dispatcher, status: Status, show: Callable[[Status], None]) -> Status:
    """Show each new status of the job or batch until it ended; gives the last one."""
    wait = dispatcher.wait if isinstance(status, JobStatus) else dispatcher.wait_batch
    show(status)
    for latest in _changes(wait, status):
        status = latest
        show(status)
    return status


def _changes(wait: Callable[[str, float], Status], status: Status) -> Iterator[Status]:
    trouble = False
    while not status.finished:
        try:
            latest = wait(status.id, _LOOK_EVERY)
        except WaitTimeout as error:
            if error.status is None and not trouble:
                warn(str(error))
            trouble = error.status is None
            latest = error.status or status
        if latest != status:
            yield latest
        status = latest


@contextmanager
def _steps(status: Status, *, as_json: bool) -> Iterator[Callable[[Status], None]]:
    """What shows a step: a bar for a batch on a terminal, else a line for each but the last."""
    if isinstance(status, JobStatus) or as_json or not sys.stdout.isatty():
        show = print_status_json if as_json else print_step
        yield lambda step: None if step.finished else show(step)
        return
    bar = ProgressBar(sys.stdout)
    try:
        yield lambda step: _draw(bar, step)
    finally:
        bar.end()


def _draw(bar: ProgressBar, step: Status) -> None:
    if isinstance(step, BatchStatus):
        ended = f"{step.progress.done}/{step.progress.total}"
        bar.draw(step.progress, ", ".join(filter(None, (ended, bad_ends(step)))))


command = Command(
    help="show what became of a job or a batch",
    example="example: dispatcher status 01981a6e-5f4c-7f3e-8f0a-3b1c2d4e5f60 --watch",
    configure=_configure,
    run=_run,
)
