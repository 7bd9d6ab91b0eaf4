"""``dispatcher demo``: see a job's whole path, on real input."""

import argparse
import logging
import sys
import time

from ..command import Command
from ..errors import DispatcherError
from ..plugins import COMMANDS, SENDERS, plugin_names
from ..printing import print_json, warn
from .checks import problems
from .files import MOST_FILES, MOST_OWN_FILES, survey
from .limits import Interrupted, Limits
from .play import Play
from .report import Report
from .screen import Screen
from .stage import PROCESSES, staged

__all__ = ["command"]

# A call that is on its way then may take 3 s more, and the tidying up 2 s.
_SECONDS = 14.0
_MOST_PROBLEMS = 10
_NEEDED = {
    (SENDERS, "urllib"): "dispatcher-http-sender",
    (COMMANDS, "serve"): "dispatcher-wsgi-receiver",
    (COMMANDS, "work"): "dispatcher-local-queue",
}


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder",
        nargs="?",
        metavar="FOLDER",
        help="count the words of its text files, in folders below it too, without hidden ones"
        f" and at most {MOST_FILES} (default: {MOST_OWN_FILES} source files of Dispatcher's own)",
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def _run(arguments: argparse.Namespace) -> int:
    _check_packages()
    # What fails is told by the demo itself; a log without a handler would tell it once more.
    logging.getLogger("dispatcher").addHandler(logging.NullHandler())
    screen = Screen(sys.stderr if arguments.json else sys.stdout)
    try:
        report = _report(arguments.folder, screen)
        _show(report, screen, as_json=arguments.json)
    except Interrupted as stop:
        warn(f"{stop}, nothing is left behind")
        return 128 + stop.signal
    return 1 if report.problems else 0


def _check_packages() -> None:
    missing = [
        package for (group, name), package in _NEEDED.items() if name not in plugin_names(group)
    ]
    if missing:
        raise DispatcherError(
            f"the demo runs both applications, and needs more: pip install {' '.join(missing)}"
        )


def _report(folder: str | None, screen: Screen) -> Report:
    start = time.monotonic()
    with Limits(_SECONDS) as limits:
        try:
            found = survey(folder, limits)
            screen.line(str(found))
            with staged(limits) as stage:
                screen.line(f"receiver at {stage.url}, {PROCESSES} worker processes")
                played = Play(stage, limits, screen).run(found.files)
        finally:
            screen.clear()
    wrong = problems(found.files, played)
    return Report(found, played, wrong, time.monotonic() - start)


def _show(report: Report, screen: Screen, *, as_json: bool) -> None:
    if as_json:
        print_json(report.figures())
    else:
        rows = report.rows()
        width = max(map(len, rows))
        for name, text in rows.items():
            screen.line(f"{name:{width}}  {text}")
    for problem in report.problems[:_MOST_PROBLEMS]:
        warn(problem)
    if len(report.problems) > _MOST_PROBLEMS:
        warn(f"and {len(report.problems) - _MOST_PROBLEMS} more problems like these")


command = Command(
    help="see the whole path of jobs on real input, on this machine alone, in under 20 s",
    example="example: dispatcher demo ~/notes",
    configure=_configure,
    run=_run,
)
