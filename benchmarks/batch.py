"""What batches cost, held against single dispatches and raw SQLite in the same run.

Run from the repository's root: ``.venv/bin/python benchmarks/batch.py [PART]...``; the parts are
the functions below without their ``part_``. Exit status 1 when a goal is missed.
"""

import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from cases import messages, raw_database, raw_row
from measuring import ROUNDS, Table, folder, medians, per_second, run
from programs import HERE, SECRET, environment, served

from dispatcher_core import Config, Dispatcher, Job
from dispatcher_core.batch_wire import BatchMessage, decode_batch, encode_batch
from dispatcher_core.names import new_id
from dispatcher_core.status import JobError
from dispatcher_local_queue import SQLiteQueue
from dispatcher_local_queue.claims import Claims
from dispatcher_local_queue.database import Database
from dispatcher_local_queue.endings import Ending
from dispatcher_local_queue.wakeup import Bells

COUNT = 10_000
SINGLES = 2_000
FAILURES = 5
SENDERS = 2
INSERT = """
INSERT INTO job (batch_id, id, name, queue, priority, state, available_at, created_at,
                 payload)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


def part_dispatching(table: Table) -> None:
    """Dispatching many jobs: singly, in batches, and what SQLite alone would take."""
    table.title(f"dispatching {COUNT:,} jobs, gunicorn with 2 processes of 4 threads")
    with folder() as place, receiver(place) as dispatcher:
        raw = raw_database(place / "raw.sqlite3")
        inserted, single, thousands, whole, shared = medians(
            lambda: executemany_rate(raw),
            lambda: singles_rate(dispatcher, SINGLES),
            lambda: batches_rate(dispatcher, 1_000),
            lambda: batches_rate(dispatcher, COUNT),
            lambda: batches_rate(dispatcher, 1_000, senders=SENDERS),
        )
    table.row("raw executemany, one commit", f"{inserted:,.0f}/s")
    table.row(f"single dispatches ({SINGLES:,})", f"{single:,.0f}/s")
    for what, rate in (
        ("batches of 1,000", thousands),
        (f"one batch of {COUNT:,}", whole),
        (f"batches of 1,000 by {SENDERS} threads", shared),
    ):
        table.row(what, f"{rate:,.0f}/s")
        table.ratio(f"{what} / raw executemany", rate / inserted, least=0.33)
        # 30,000 a second where single dispatches are 1,500 a second.
        table.ratio(f"{what} / single dispatches", rate / single, least=20)


def part_waiting(table: Table) -> None:
    """Single dispatches while large batches are being accepted."""
    table.title(f"single dispatches while batches of {COUNT:,} are accepted")
    with folder() as place, receiver(place) as dispatcher:
        waits = waits_beside_batches(dispatcher, ROUNDS)
    waits.sort()
    longest, middle = waits[-1] * 1000, waits[len(waits) // 2] * 1000
    table.row(f"median of {len(waits):,}", f"{middle:.1f} ms")
    table.row("longest", f"{longest:.0f} ms", goal="at most 200 ms", met=longest <= 200)


def part_status(table: Table) -> None:
    """Asking for a batch, small or large."""
    table.title(f"status of a batch, {FAILURES} of whose jobs have failed, microseconds")
    with folder() as place, receiver(place) as dispatcher:
        queue = SQLiteQueue(place / "queue.sqlite3")
        ids = [started_batch(place, queue, size) for size in (10, COUNT)]
        small, large = medians(*(seconds_of(queue.find_batch, id) for id in ids))
        near, far = medians(*(seconds_of(dispatcher.batch_status, id) for id in ids))
        queue.close()
    for what, few, many in (("in the queue", small, large), ("over HTTP", near, far)):
        table.row(f"{what}, 10 jobs", f"{few * 1e6:.0f}")
        row = f"{what}, {COUNT:,} jobs"
        table.row(row, f"{many * 1e6:.0f}", goal="at most 1.5 x", met=many <= few * 1.5)


def part_running(table: Table) -> None:
    """Running jobs that do nothing, in a batch and outside."""
    table.title(f"running {COUNT:,} jobs that do nothing, 2 worker processes")
    with folder() as place:
        turn = iter(range(10**6))
        alone, batched = medians(
            lambda: seconds_to_run(place / str(next(turn)), should_batch=False),
            lambda: seconds_to_run(place / str(next(turn)), should_batch=True),
        )
    table.row("outside of a batch", f"{COUNT / alone:,.0f}/s")
    row = "in a batch"
    table.row(row, f"{COUNT / batched:,.0f}/s", goal="at most 1.2 x", met=batched <= alone * 1.2)
    table.row("time in a batch / outside", f"{batched / alone:.2f}")


# Dispatching


def payloads(count: int) -> list[dict[str, object]]:
    """Payloads of about 200 bytes."""
    return [{"number": number, "text": "x" * 170} for number in range(count)]


def some_jobs(count: int) -> list[Job]:
    """Jobs that do nothing."""
    return [Job("noop", payload) for payload in payloads(count)]


def executemany_rate(connection: sqlite3.Connection) -> float:
    """Rows a second that plain SQLite inserts, those of a batch with one commit."""
    batch_id = new_id()
    rows = [(batch_id, *raw_row(job)) for job in messages(COUNT)]

    def insert() -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(INSERT, rows)
        connection.execute("COMMIT")

    return per_second(COUNT, insert)


def singles_rate(dispatcher: Dispatcher, count: int) -> float:
    """Jobs a second that are dispatched one after the other."""
    jobs = some_jobs(count)
    return per_second(count, lambda: [dispatcher.dispatch(job).raise_for_error() for job in jobs])


def batches_rate(dispatcher: Dispatcher, size: int, *, senders: int = 1) -> float:
    """Jobs a second that are dispatched in batches of a size, by some threads at a time."""
    jobs = some_jobs(COUNT)
    parts = [jobs[start : start + size] for start in range(0, COUNT, size)]

    def send(own: Sequence[list[Job]]) -> None:
        for part in own:
            dispatcher.batch(part).raise_for_error()

    return per_second(
        COUNT, lambda: together([lambda s=s: send(parts[s::senders]) for s in range(senders)])
    )


def together(acts: Sequence[Callable[[], None]]) -> None:
    """Do all at once, each in a thread."""
    done: list[None] = []
    threads = [threading.Thread(target=lambda act=act: done.append(act())) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == len(acts), "see above what failed"


def waits_beside_batches(dispatcher: Dispatcher, batches: int) -> list[float]:
    """Seconds that single dispatches took while one batch after the other was accepted."""
    waits: list[float] = []
    over = threading.Event()

    def dispatch_batches() -> None:
        try:
            for _ in range(batches):
                dispatcher.batch(some_jobs(COUNT)).raise_for_error()
        finally:
            over.set()

    def dispatch_singly() -> None:
        while not over.is_set():
            begun = time.perf_counter()
            dispatcher.dispatch("noop", {"number": 1, "text": ""}).raise_for_error()
            waits.append(time.perf_counter() - begun)

    together([dispatch_batches, dispatch_singly])
    return waits


# Status


def started_batch(place: Path, queue: SQLiteQueue, size: int) -> str:
    """A batch of a size, some of whose jobs have failed."""
    batch = batch_of(some_jobs(size), should_batch=True, queue=f"size-{size}")
    queue.put_batch(batch)
    database = Database(place / "queue.sqlite3", durable=False)
    claims = Claims(database, "benchmark", Bells(database.files))
    for _ in range(FAILURES):
        claim = claims.claim([f"size-{size}"])
        assert claim is not None
        claims.end_and_claim(claim, Ending.failed(JobError("exception", "ValueError", "")), [])
    database.close()
    return batch.id


def batch_of(jobs: list[Job], *, should_batch: bool, queue: str = "default") -> BatchMessage:
    """The batch as a receiver puts it."""
    flags = {"should_batch": should_batch, "allow_failures": True}
    return decode_batch(new_id(), encode_batch(jobs, queue, datetime.now(UTC), **flags))


def seconds_of(ask: Callable[[str], object], id: str, times: int = 200) -> Callable[[], float]:
    """A measure of how long it takes to ask for the id."""

    def measure() -> float:
        return 1 / per_second(times, lambda: [ask(id) for _ in range(times)])

    return measure


# Programs


@contextmanager
def receiver(place: Path) -> Iterator[Dispatcher]:
    """A receiver under gunicorn, and what dispatches to it."""
    with served(place) as url:
        dispatcher = Dispatcher(Config(url=url, secret=SECRET))
        singles_rate(dispatcher, 100)  # both processes are up, with all open that they need
        yield dispatcher


def seconds_to_run(place: Path, *, should_batch: bool) -> float:
    """How long the jobs take, from the first start to the last end."""
    place.mkdir()
    shutil.copy(HERE / "cases.py", place)
    path = place / "queue.sqlite3"
    queue = SQLiteQueue(path)
    queue.put_batch(batch_of(some_jobs(COUNT), should_batch=should_batch))
    queue.close()
    work = ("dispatcher_core", "work", "-q", "--processes", "2", "--burst")
    subprocess.run([sys.executable, "-m", *work], cwd=place, env=environment(path), check=True)
    connection = sqlite3.connect(path)
    first, last, done = connection.execute(
        "SELECT min(started_at), max(finished_at), count(*) FROM job WHERE state = 'succeeded'"
    ).fetchone()
    connection.close()
    assert done == COUNT
    return float(last - first) / 1000


if __name__ == "__main__":
    sys.exit(run(globals()))
