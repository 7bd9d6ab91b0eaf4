"""What a run has left behind: the table, and what programs and handlers have recorded."""

import re
import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from .killing import Kill
from .plans import Plan
from .programs import Place
from .records import read_records

__all__ = ["Accepted", "Evidence", "Row", "Start", "collect", "read_starts"]

_TRACEBACK = re.compile(r"Traceback \(most recent call last\):\n(?: .*\n|\n)*(\S.*)")
_OURS = frozenset(("dispatcher_local_queue.worker", "soak.enqueuer"))
_MEANT = ("soak.jobs.PlannedFailure", "dispatcher_core.outcomes.Fail")
_TROUBLE = re.compile(r".*(?:cannot go on|the queue's file|is not (?:this worker's|written)).*")


class Row(NamedTuple):
    """A row of the table of jobs."""

    id: str
    state: str
    attempt: int
    kills: int
    result: str | None
    error_code: str | None
    worker: str | None
    finished_at: int | None


@dataclass(frozen=True, slots=True)
class Accepted:
    """A job that the queue has accepted.

    Attributes:
        plan: the job.
        asked: when the queue was asked, each time, on the monotonic clock in nanoseconds.
        new: whether the queue said that it is new.
    """

    plan: Plan
    asked: Sequence[int]
    new: bool


@dataclass(slots=True)
class Start:
    """One start of a job.

    Attributes:
        id: the job.
        attempt: which try it was, as the queue counted it.
        process: the identity of the worker process.
        at: when, on the monotonic clock in nanoseconds.
        seen: its last sign of life, likewise.
        ended: whether the handler came to its end.
        last: whether it was the last start in its process.
    """

    id: str
    attempt: int
    process: str
    at: int
    seen: int
    ended: bool = False
    last: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that is known of a run.

    Attributes:
        jobs: how many jobs were to be put.
        accepted: what was accepted, in no order.
        repeated: for each job that was put anew after it was accepted, whether it was new.
        rows: the table.
        starts: every start of a job.
        kills: who was killed.
        faults: what else happened that must not.
    """

    jobs: int
    accepted: Sequence[Accepted]
    repeated: Sequence[tuple[str, bool]] = ()
    rows: Sequence[Row]
    starts: Sequence[Start]
    kills: Sequence[Kill] = ()
    faults: Sequence[str] = field(default=())


def collect(place: Place, *, jobs: int, kills: Sequence[Kill], faults: Sequence[str]) -> Evidence:
    """Gather what a run has left behind, once all of its programs have ended."""
    logs = place.folder.glob("enqueuer-?.log")
    enqueued = [each for log in logs for each in read_records(log)]
    asked = defaultdict(list)
    for each in enqueued:
        if each["event"] == "asked":
            asked[each["id"]].append(each["at"])
    return Evidence(
        jobs=jobs,
        accepted=[
            Accepted(Plan(**each["plan"]), asked[each["id"]], each["new"])
            for each in enqueued
            if each["event"] == "accepted"
        ],
        repeated=[(each["id"], each["new"]) for each in enqueued if each["event"] == "repeated"],
        rows=_rows(place.database),
        starts=read_starts(place.events),
        kills=kills,
        faults=[
            *faults,
            *(f"unavailable: {e['reason']}" for e in enqueued if e["event"] == "unavailable"),
            *_printed(place),
            *_left_behind(place),
        ],
    )


def read_starts(events: Path) -> list[Start]:
    """The starts that the workers have recorded."""
    starts: list[Start] = []
    for path in events.iterdir():
        own = _starts_of(path.stem, read_records(path))
        if own:
            own[-1].last = True
        starts += own
    return starts


def _starts_of(process: str, records: Sequence[dict[str, Any]]) -> list[Start]:
    starts: list[Start] = []
    for each in records:
        if each["event"] == "start":
            starts.append(Start(each["id"], each["attempt"], process, each["at"], each["at"]))
        else:
            starts[-1].seen = each["at"]
            starts[-1].ended = each["event"] == "end"
    return starts


def _rows(database: Path) -> list[Row]:
    with closing(sqlite3.connect(database)) as connection:
        return [
            Row(*row) for row in connection.execute(f"SELECT {', '.join(Row._fields)} FROM job")
        ]


def _printed(place: Place) -> list[str]:
    """What the programs have printed that a run without errors does not."""
    found = []
    for path in [*place.folder.glob("supervisor-?.log"), *place.folder.glob("*-output.log")]:
        text = path.read_text("utf-8", "replace")
        lines = [match[0] for match in _TROUBLE.finditer(text)]
        lines += [m[1] for m in _TRACEBACK.finditer(text) if not m[1].startswith(_MEANT)]
        found += [f"{path.stem} printed: {line}" for line in lines]
    return found


def _left_behind(place: Place) -> list[str]:
    """What a clean stop must have removed."""
    with closing(sqlite3.connect(place.database)) as connection:
        integrity = [row[0] for row in connection.execute("PRAGMA integrity_check")]
        workers = [row[0] for row in connection.execute("SELECT id FROM worker")]
    found = [f"integrity_check: {line}" for line in integrity if line != "ok"]
    found += [f"worker {id} still has a row" for id in workers]
    found += [f"{path.name} is left" for path in place.queue_files.folder.glob("*-*.lock")]
    found += [f"process {pid} is left" for pid in _processes_with(str(place.folder))]
    return found


def _processes_with(text: str) -> list[str]:
    """The worker and enqueuing processes with this text in their arguments."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = path.read_bytes().decode("utf-8", "replace").split("\0")
        except OSError:  # it has gone meanwhile
            continue
        if not _OURS.isdisjoint(arguments) and text in "".join(arguments):
            found.append(path.parent.name)
    return found
