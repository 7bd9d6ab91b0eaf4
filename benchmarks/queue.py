"""What the local queue costs, held against raw SQLite and other queues in the same run.

Run from the repository's root: ``.venv/bin/python benchmarks/queue.py [PART]...``; the parts are
the functions below without their ``part_``. Exit status 1 when a goal is missed.
"""

import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # not this folder, whose queue.py would hide the standard library's

from benchmarks.cases import INSERT, message, messages, raw_database, raw_row
from benchmarks.measuring import ROUNDS, Table, folder, medians, per_second, percentile, run
from benchmarks.peers import PEERS

from dispatcher_core.batch_wire import BatchMessage
from dispatcher_core.names import new_id
from dispatcher_core.wire import JobMessage
from dispatcher_local_queue import SQLiteQueue
from dispatcher_local_queue.admin import Admin
from dispatcher_local_queue.claims import Claims
from dispatcher_local_queue.database import Database
from dispatcher_local_queue.endings import Ending
from dispatcher_local_queue.wakeup import Bells


def part_enqueue(table: Table) -> None:
    """Putting jobs, with one thread and with eight."""
    table.title("enqueue (synchronous=FULL)")
    with folder() as place:
        raw = raw_database(place / "raw.sqlite3")
        queue = SQLiteQueue(place / "queue.sqlite3")
        put_all(queue, messages(200))
        ready, made, single, shared = medians(
            lambda: raw_rate(raw, messages(1000)),
            lambda: raw_job_rate(raw, messages(1000)),
            lambda: put_rate(queue, messages(1000)),
            lambda: threads_rate(queue, messages(4000), 8),
        )
        commit = 1000 / ready
    table.row("raw, rows made before", f"{ready:,.0f}/s", goal=f"{commit:.2f} ms each")
    table.row("raw, row made of a job", f"{made:,.0f}/s")
    table.row("put, one thread", f"{single:,.0f}/s")
    table.row("put, eight threads", f"{shared:,.0f}/s")
    table.ratio("put / raw, row made of a job", single / made, least=0.8)
    table.row("put / raw, rows made before", f"{single / ready:.2f}")
    table.ratio("eight threads / one", shared / single, least=5.0 if commit > 0.8 else 2.0)


def part_slow_flush(table: Table) -> None:
    """The same where the disk takes a millisecond longer for each flush."""
    with folder() as place:
        library = place / "slow_flush.so"
        source = ROOT / "benchmarks" / "slow_flush.c"
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
        slow = {"LD_PRELOAD": str(library), "SLOW_FLUSH_US": "1000"}
        command = [sys.executable, ROOT / "benchmarks" / "queue.py", "enqueue"]
        print("\nwith each flush slowed by 1 ms", flush=True)
        result = subprocess.run(command, env={**os.environ, **slow}, check=False)
    if result.returncode:
        table.missed.append("with slow flushes, see above")


def part_thousand(table: Table) -> None:
    """A thousand jobs in one call, and a thousand rows in one raw transaction."""
    table.title("1,000 jobs in one call (synchronous=FULL)")
    with folder() as place:
        raw = raw_database(place / "raw.sqlite3")
        queue = SQLiteQueue(place / "queue.sqlite3")
        inserted, put = medians(
            lambda: raw_thousand_rate(raw, messages(1000)),
            lambda: put_thousand_rate(queue, set_of(messages(1000))),
            rounds=4 * ROUNDS,
        )
    table.row("raw executemany and commit", f"{inserted:,.0f} jobs/s")
    table.row("put_batch", f"{put:,.0f} jobs/s")
    table.ratio("put_batch / executemany", put / inserted, least=0.6)


def part_running(table: Table) -> None:
    """Running jobs that do nothing, with two worker processes, beside other queues."""
    table.title("running 10,000 jobs that do nothing, 2 worker processes")
    with folder() as place:
        ours = [run_noops(place / str(turn), 10_000, processes=2) for turn in range(ROUNDS)]
    rate = sorted(ours)[len(ours) // 2]
    table.row("dispatcher work", f"{rate:,.0f}/s")
    for peer in PEERS:
        with folder() as place:
            found = peer.rate(place)
        if found is None:
            table.row(peer.name, "not installed")
            continue
        table.row(peer.name, f"{found:,.0f}/s")
        table.ratio(f"dispatcher / {peer.name}", rate / found, least=peer.goal)


def part_claims(table: Table) -> None:
    """Ending one job and claiming the next, however many others there are."""
    table.title("end one job and claim the next, microseconds")
    with folder() as place:
        few, waiting, finished = (
            claims_among(place / name, state, count)
            for name, state, count in (
                ("few", "queued", 1_000),
                ("waiting", "queued", 1_000_000),
                ("finished", "succeeded", 1_000_000),
            )
        )
        base, among_waiting, among_finished = medians(few, waiting, finished)
    table.row("with 1,000 waiting", f"{base:.1f}")
    for what, value in (("waiting", among_waiting), ("finished", among_finished)):
        row = f"with 1,000,000 {what}"
        table.row(row, f"{value:.1f}", goal="at most 1.3 x", met=value <= base * 1.3)


def part_contention(table: Table) -> None:
    """Four worker processes together, and one alone, on jobs that do nothing."""
    table.title("30,000 jobs that do nothing, by four worker processes and by one")
    with folder() as place:
        alone = [Shares.of(place / f"one-{turn}", 1) for turn in range(3)]
        together = [Shares.of(place / f"four-{turn}", 4) for turn in range(3)]
    one, four = (sorted(each.rate for each in runs)[1] for runs in (alone, together))
    table.row("one process", f"{one:,.0f} jobs/s")
    table.row("four processes together", f"{four:,.0f} jobs/s")
    table.ratio("four / one", four / one, least=0.9)
    table.ratio("slowest / fastest", min(each.evenness for each in together), least=0.7)
    longest = max(each.longest for each in together)
    table.row(
        "longest wait for the lock", f"{longest} ms", goal="at most 200 ms", met=longest <= 200
    )


def part_claiming(table: Table) -> None:
    """The same without the jobs: ending one and claiming the next, as often as it goes."""
    table.title("processes that only end jobs and claim the next, each in a loop")
    with folder() as place:
        one = loops(place / "one", 1)
        four = loops(place / "four", 4)
    alone, together = sum(one.counts), sum(four.counts)
    table.row("one process", f"{alone / one.seconds:,.0f} jobs/s")
    table.row("four processes together", f"{together / four.seconds:,.0f} jobs/s")
    table.row("four / one", f"{(together / four.seconds) / (alone / one.seconds):.2f}")
    table.row("slowest / fastest", f"{min(four.counts) / max(four.counts):.2f}")
    table.row("longest wait", f"{max(four.longest) * 1000:.0f} ms")


def part_wakeup(table: Table) -> None:
    """From an enqueue in another process until an idle worker has started the job."""
    table.title("wake-up of an idle worker, and its idle cost")
    with folder() as place, work(place, processes=2) as (queue, supervisor):
        waits = []
        for number in range(300):
            put = message({"number": number, "text": ""})
            before = time.time()
            queue.put(put)
            waits.append(started(queue, put.id) - before)
        idle = idle_share(supervisor, seconds=5.0)
    middle, slow = percentile(waits, 0.5) * 1000, percentile(waits, 0.99) * 1000
    table.row("median", f"{middle:.1f} ms", goal="under 2 ms", met=middle < 2)
    table.row("p99", f"{slow:.1f} ms", goal="under 20 ms", met=slow < 20)
    table.row("idle, each process", f"{idle:.3%}", goal="under 0.2 %", met=idle < 0.002)


def part_memory(table: Table) -> None:
    """What a worker process keeps in memory, also after many jobs."""
    table.title("memory of a worker process")
    with folder() as place, work(place, processes=1) as (queue, supervisor):
        put_all(queue, messages(1000))
        drained(queue, place)
        early = resident(children(supervisor)[0])
        for _ in range(100):
            put_all_shared(queue, messages(1000))
        drained(queue, place)
        late = resident(children(supervisor)[0])
    bare = (
        float(
            subprocess.check_output(
                [sys.executable, "-c", "print(open('/proc/self/statm').read().split()[1])"]
            )
        )
        * os.sysconf("SC_PAGE_SIZE")
        / 2**20
    )
    table.row("bare Python", f"{bare:.1f} MiB")
    table.row("after 1,000 jobs", f"{early:.1f} MiB", goal="under 40", met=early < 40)
    table.row("after 101,000 jobs", f"{late:.1f} MiB", goal="no growth", met=late < early + 2)


# Putting


def raw_rate(connection: sqlite3.Connection, jobs: list[JobMessage]) -> float:
    """Rows a second that plain SQLite inserts, a commit each."""
    rows = [raw_row(job) for job in jobs]
    return per_second(len(rows), lambda: [connection.execute(INSERT, row) for row in rows])


def raw_job_rate(connection: sqlite3.Connection, jobs: list[JobMessage]) -> float:
    """Jobs a second that plain SQLite inserts, a commit each, with the JSON text they need."""
    return per_second(
        len(jobs), lambda: [connection.execute(INSERT, raw_row(job)) for job in jobs]
    )


def raw_thousand_rate(connection: sqlite3.Connection, jobs: list[JobMessage]) -> float:
    """Rows a second that plain SQLite inserts with one commit."""
    rows = [raw_row(job) for job in jobs]

    def insert() -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(INSERT, rows)
        connection.execute("COMMIT")

    return per_second(len(rows), insert)


def set_of(jobs: list[JobMessage]) -> BatchMessage:
    """The jobs as they come in one request that makes no batch of them."""
    return BatchMessage(
        id=new_id(),
        jobs=tuple(jobs),
        should_batch=False,
        allow_failures=False,
        then=None,
        catch=None,
        finally_=None,
    )


def put_thousand_rate(queue: SQLiteQueue, jobs: BatchMessage) -> float:
    """Jobs a second that one call puts."""
    return per_second(len(jobs.jobs), lambda: queue.put_batch(jobs))


def put_all(queue: SQLiteQueue, jobs: list[JobMessage]) -> None:
    """Put one job after the other."""
    for job in jobs:
        queue.put(job)


def put_all_shared(queue: SQLiteQueue, jobs: list[JobMessage], count: int = 8) -> None:
    """Put the jobs by several threads."""
    parts = [jobs[start::count] for start in range(count)]
    threads = [threading.Thread(target=put_all, args=(queue, part)) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def put_rate(queue: SQLiteQueue, jobs: list[JobMessage]) -> float:
    """Jobs a second that one thread puts."""
    return per_second(len(jobs), lambda: put_all(queue, jobs))


def threads_rate(queue: SQLiteQueue, jobs: list[JobMessage], count: int) -> float:
    """Jobs a second that several threads put."""
    return per_second(len(jobs), lambda: put_all_shared(queue, jobs, count))


# Claiming


def claims_among(path: Path, state: str, count: int) -> Callable[[], float]:
    """A measure of one end-and-claim, in microseconds, among so many other jobs."""
    fill(path, state, count)
    queue = SQLiteQueue(path)
    database = Database(path, durable=False)
    claims = Claims(database, "benchmark", Bells(database.files))

    def measure(cycles: int = 1000) -> float:
        put_all_shared(queue, messages(cycles + 1))
        claim = claims.claim(["default"])
        begun = time.perf_counter()
        for _ in range(cycles):
            assert claim is not None
            _, claim = claims.end_and_claim(claim, Ending(state="succeeded"), ["default"])
        spent = time.perf_counter() - begun
        assert claim is not None
        claims.end_and_claim(claim, Ending(state="succeeded"), [])
        return spent / cycles * 1e6

    return measure


def fill(path: Path, state: str, count: int) -> None:
    """Make a queue's file with so many jobs."""
    SQLiteQueue(path).find_job("nothing")
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN")
    rows = (raw_row(message({"number": n, "text": "x" * 170}), state) for n in range(count))
    connection.executemany(INSERT, rows)
    connection.execute("COMMIT")
    connection.close()


class loops:  # noqa: N801
    """Processes that end jobs and claim the next for a while, and how each fared."""

    def __init__(self, path: Path, processes: int, seconds: float = 4.0) -> None:
        fill(path, "queued", 100_000)
        command = [sys.executable, "-m", "benchmarks.loop", path, str(seconds)]
        running = [
            subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) for _ in range(processes)
        ]
        answers = [process.communicate()[0].split() for process in running]
        self.seconds = seconds
        self.counts = [int(count) for count, _ in answers]
        self.longest = [float(longest) for _, longest in answers]


# Worker processes


@contextmanager
def work(place: Path, *, processes: int) -> Iterator[tuple[SQLiteQueue, int]]:
    """A queue with workers, and the pid of their supervisor."""
    path = place / "queue.sqlite3"
    environment = {
        **os.environ,
        "DISPATCHER_QUEUE_URL": f"sqlite:///{path}",
        "DISPATCHER_MODULES": "benchmarks.cases",
    }
    command = [sys.executable, "-m", "dispatcher_core", "work", "--processes", str(processes)]
    log = (place / "work.log").open("w+")
    supervisor = subprocess.Popen(
        [*command, "--app-dir", ROOT], env=environment, cwd=place, stderr=log
    )
    try:
        while "ready" not in (place / "work.log").read_text():
            assert supervisor.poll() is None, (place / "work.log").read_text()
            time.sleep(0.02)
        yield SQLiteQueue(path), supervisor.pid
    finally:
        supervisor.terminate()
        supervisor.wait()
        log.close()


def run_noops(place: Path, count: int, *, processes: int) -> float:
    """Jobs a second, from the first start to the last end."""
    place.mkdir()
    queue = SQLiteQueue(place / "queue.sqlite3")
    put_all_shared(queue, messages(count))
    with work(place, processes=processes):
        drained(queue, place)
    connection = sqlite3.connect(place / "queue.sqlite3")
    first, last, done = connection.execute(
        "SELECT min(started_at), max(finished_at), count(*) FROM job WHERE state = 'succeeded'"
    ).fetchone()
    connection.close()
    assert done == count
    return count / (last - first) * 1000


@dataclass(frozen=True, slots=True)
class Shares:
    """How worker processes that began at one moment shared jobs.

    Attributes:
        rate: jobs a second, of all together.
        evenness: the jobs of the process that ran the fewest, against the most.
        longest: milliseconds of the longest run, all of it the wait for SQLite's lock.
    """

    rate: float
    evenness: float
    longest: int

    @classmethod
    def of(cls, place: Path, processes: int, count: int = 30_000) -> Self:
        """Run jobs that tell which process runs them."""
        place.mkdir()
        database = Database(place / "queue.sqlite3", durable=False)
        admin = Admin(database)
        jobs = [replace(message({}), job="whoami") for _ in range(count)]
        put_all_shared(SQLiteQueue(place / "queue.sqlite3"), jobs)
        admin.pause("default")
        with work(place, processes=processes) as (queue, _):
            admin.resume("default")
            drained(queue, place)
        with database.read() as connection:
            runs = connection.execute(
                "SELECT result, started_at, finished_at FROM job ORDER BY result"
            ).fetchall()
        database.close()
        counts = [len(list(own)) for _, own in groupby(runs, lambda run: run[0])]
        longest = max(finished - started for _, started, finished in runs)
        first, last = min(run[1] for run in runs), max(run[2] for run in runs)
        assert len(counts) == processes
        return cls(count / (last - first) * 1000, min(counts) / max(counts), longest)


def drained(queue: SQLiteQueue, place: Path) -> None:
    """Wait until nothing waits or runs."""
    connection = sqlite3.connect(place / "queue.sqlite3", timeout=5)
    # Each finds its partial index: to look must not cost what is measured.
    looks = [
        f"SELECT 1 FROM job WHERE state = '{state}' LIMIT 1" for state in ("queued", "running")
    ]
    while any(connection.execute(look).fetchone() for look in looks):
        time.sleep(0.02)
    connection.close()


def started(queue: SQLiteQueue, id: str) -> float:
    """When the job was started, in seconds since 1970."""
    while (status := queue.find_job(id)) is None or status.started_at is None:
        time.sleep(0.0005)
    return status.started_at.timestamp()


def children(pid: int) -> list[int]:
    """The child processes of a process."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def resident(pid: int) -> float:
    """The memory that a process has in use, in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def idle_share(supervisor: int, *, seconds: float) -> float:
    """The share of a core that each process uses while nothing happens."""
    pids = [supervisor, *children(supervisor)]
    before = sum(map(cpu_seconds, pids))
    time.sleep(seconds)
    return (sum(map(cpu_seconds, pids)) - before) / seconds / len(pids)


def cpu_seconds(pid: int) -> float:
    """The processor time that a process has used, in nanosecond resolution."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


if __name__ == "__main__":
    sys.exit(run(globals()))
