"""Dispatches by many threads while the receiver's processes are killed, and the verdict."""

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from threading import Condition
from typing import cast

from dispatcher_core import Config, Dispatcher, Result, SendFailed
from dispatcher_core.plugins import SENDERS, load_plugin
from dispatcher_core.protocols import Request, Response, Sender

from .receiver import SECRET, Receiver

__all__ = ["Evidence", "Row", "Sent", "Size", "figures", "findings", "run"]

THREADS = 16
JOB = "store"
_HASTE = 0.1  # seconds: the deadline of every other dispatch, too short for a second try
# What may become of a dispatch whose receiver dies.
_EXPECTED = ("unreachable", "timeout")
_OTHER_TABLES = ("accepted_batch", "batch", "worker", "paused_queue")

Plugin = Callable[[], AbstractContextManager[Sender]]


@dataclass(frozen=True, slots=True)
class Size:
    """How big a run is.

    Attributes:
        dispatches: how many jobs are dispatched.
        kills: how often a worker of gunicorn is killed.
        seed: what follows from it is when, counted in dispatches, and which one.
        sender: the plugin that sends.
    """

    dispatches: int
    kills: int
    seed: int
    sender: str = "urllib"


@dataclass(frozen=True, slots=True)
class Sent:
    """What a dispatch said.

    Attributes:
        number: the payload's.
        id: the job's.
        code: of the error; empty where it was acknowledged.
        duplicate: whether the receiver knew the id by then.
    """

    number: int
    id: str
    code: str = ""
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """What is in the table: the id, and what the payload says."""

    id: str
    number: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is left of a run.

    Attributes:
        sent: the dispatches.
        again: those that were not acknowledged, dispatched again.
        rows: the table's.
        others: rows of tables in which there should be none.
        integrity: the answer to ``PRAGMA integrity_check``.
        exit_code: gunicorn's.
        kills: how many of its workers were killed.
        tries: requests that the sender sent.
        lost: those of them to which no answer came.
        took: seconds until the last job was dispatched for the first time.
    """

    sent: Sequence[Sent]
    again: Sequence[Sent]
    rows: Sequence[Row]
    others: int = 0
    integrity: str = "ok"
    exit_code: int = 0
    kills: int = 0
    tries: int = 0
    lost: int = 0
    took: float = 1.0


@dataclass(slots=True)
class Counting:
    """A sender that counts. Threads may share it: each adds to a list."""

    sender: Sender
    tries: list[None] = field(default_factory=list)
    lost: list[None] = field(default_factory=list)

    def send(self, request: Request, timeout: float) -> Response:
        """Send the request."""
        self.tries.append(None)
        try:
            return self.sender.send(request, timeout)
        except SendFailed:
            self.lost.append(None)
            raise


class Senders:
    """The threads that dispatch, with a dispatcher that has time and one that has none.

    Args:
        url: where to.
        sender: sends the requests.
    """

    def __init__(self, url: str, sender: Sender) -> None:
        patient = Config(url=url, secret=SECRET)
        hasty = Config(url=url, secret=SECRET, deadline=_HASTE)
        self._patient = Dispatcher(patient, sender=sender)
        self._dispatchers = (self._patient, Dispatcher(hasty, sender=sender))
        self._done, self._changed = 0, Condition()

    def dispatch(self, number: int) -> Sent:
        """Dispatch a job for the first time."""
        result = self._dispatchers[number % 2].dispatch(JOB, {"number": number})
        with self._changed:
            self._done += 1
            self._changed.notify_all()
        return _sent(number, result)

    def again(self, sent: Sent) -> Sent:
        """Dispatch a job again, with its id."""
        return _sent(sent.number, self._patient.dispatch(JOB, {"number": sent.number}, id=sent.id))

    def wait_for(self, count: int) -> None:
        """Wait until so many were dispatched."""
        with self._changed:
            self._changed.wait_for(lambda: self._done >= count)


def run(folder: Path, size: Size) -> Evidence:
    """Make a run in an empty folder. Nothing that it started is left."""
    plugin = cast(Plugin, load_plugin(SENDERS, size.sender))
    receiver = Receiver.start(folder)
    try:
        with plugin() as sender:
            counted = Counting(sender)
            sent, again, took = _under_fire(receiver, counted, size)
    finally:
        exit_code = receiver.stop()
    rows, others, integrity = _content(receiver.database)
    return Evidence(
        sent,
        again,
        rows,
        others=others,
        integrity=integrity,
        exit_code=exit_code,
        kills=size.kills,
        tries=len(counted.tries),
        lost=len(counted.lost),
        took=took,
    )


def findings(evidence: Evidence) -> Iterator[str]:
    """Everything that must not be; nothing if every promise was kept."""
    rows = Counter(row.id for row in evidence.rows)
    again = {one.id: one for one in evidence.again}
    for one in evidence.sent:
        if one.code not in ("", *_EXPECTED):
            yield f"{one.id} ended with {one.code}"
        if one.code and (one.id not in again or again[one.id].code):
            yield f"{one.id} was not acknowledged when it was dispatched again"
        if rows[one.id] != 1:
            yield f"{one.id} is {rows[one.id]} times in the table ({one.code or 'acknowledged'})"
    known = {one.id: one.number for one in evidence.sent}
    for row in evidence.rows:
        if known.get(row.id) != row.number:
            yield f"{row.id} with the number {row.number} is in the table: nobody dispatched it"
    if evidence.others:
        yield f"{evidence.others} rows are in other tables"
    if evidence.integrity != "ok":
        yield f"PRAGMA integrity_check: {evidence.integrity}"
    if evidence.exit_code:
        yield f"gunicorn ended with exit code {evidence.exit_code}"


def figures(evidence: Evidence) -> Iterator[tuple[str, object]]:
    """Names and values."""
    failed = Counter(one.code for one in evidence.sent if one.code)
    first = len(evidence.sent) - failed.total()
    known = sum(one.duplicate for one in evidence.sent)
    queued = sum(one.duplicate for one in evidence.again)
    yield "dispatches", len(evidence.sent)
    yield "workers of gunicorn killed", evidence.kills
    yield "tries", evidence.tries
    yield "  without an answer", evidence.lost
    yield "acknowledged at first", first
    yield "  seen as duplicate by a retry", known
    yield "failed at first", ", ".join([str(failed.total()), *_listed(failed)])
    yield "  dispatched again, acknowledged", sum(not one.code for one in evidence.again)
    yield "    and seen as duplicate", queued
    yield "jobs in the table", len(evidence.rows)
    yield "PRAGMA integrity_check", evidence.integrity
    yield "dispatches a second", f"{len(evidence.sent) / evidence.took:.0f}"
    yield "seconds", f"{evidence.took:.1f}"


def _under_fire(
    receiver: Receiver, sender: Sender, size: Size
) -> tuple[list[Sent], list[Sent], float]:
    """What the dispatches said, what those said that were made again, and the first ones' time."""
    random = Random(size.seed)
    moments = sorted(random.randrange(size.dispatches * 19 // 20) for _ in range(size.kills))
    senders = Senders(receiver.url(), sender)
    threads = ThreadPoolExecutor(THREADS)
    try:
        began = time.monotonic()
        coming = threads.map(senders.dispatch, range(size.dispatches))
        for moment in moments:
            senders.wait_for(moment)
            time.sleep(random.uniform(0, 0.005))  # or it would always be when one has ended
            receiver.kill_a_worker(random)
        sent = list(coming)
        took = time.monotonic() - began
        again = list(threads.map(senders.again, [one for one in sent if one.code]))
    finally:
        threads.shutdown(cancel_futures=True)
    return sent, again, took


def _listed(counts: Counter[str]) -> Iterator[str]:
    return (f"{count} {code}" for code, count in counts.most_common())


def _sent(number: int, result: Result) -> Sent:
    code = result.error.code if result.error else ""
    return Sent(number, result.id, code, result.duplicate)


def _content(path: Path) -> tuple[list[Row], int, str]:
    """The jobs, how many rows there are besides, and whether the file is sound."""
    with closing(sqlite3.connect(path)) as database:
        jobs = database.execute("SELECT id, payload FROM job").fetchall()
        others = (f"SELECT count(*) FROM {table}" for table in _OTHER_TABLES)
        counts = [database.execute(question).fetchone()[0] for question in others]
        (integrity,) = database.execute("PRAGMA integrity_check").fetchone()
    rows = [Row(id, json.loads(payload)["number"]) for id, payload in jobs]
    return rows, sum(counts), integrity
