"""Batches are exact whatever dies, and whoever comes first: on real worker processes.

``BATCH_ROUNDS`` in the environment says how many rounds of random kills there are.
"""

import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Self

import pytest

from dispatcher_core import Job
from dispatcher_core.batch_wire import BatchMessage, decode_batch, encode_batch
from dispatcher_core.status import BatchStatus

ROUNDS = int(os.environ.get("BATCH_ROUNDS", "2"))
SIZE = 200
WORKERS = 4
KILL_EVERY = 0.1  # seconds
LONGEST_ROUND = 150.0  # seconds
RACES = 500
HEAD_START = 1_000_000  # nanoseconds until both have heard of the moment

CALLBACKS = ("then", "catch", "finally")
LOG = "CREATE TABLE came_due (id TEXT) STRICT"
WRITE_LOG = """
CREATE TRIGGER write_came_due AFTER UPDATE ON job
WHEN old.available_at IS NULL AND new.available_at IS NOT NULL
BEGIN INSERT INTO came_due VALUES (new.id); END
"""
# Two of these end the last two jobs of a batch at the moment that they are told.
ENDER = """
import sys
import time
from pathlib import Path
from dispatcher_core.status import JobError
from dispatcher_local_queue.claims import Claims
from dispatcher_local_queue.database import Database
from dispatcher_local_queue.endings import Ending
from dispatcher_local_queue.wakeup import Bells

path, worker, state = sys.argv[1:]
database = Database(Path(path), durable=False)
claims = Claims(database, worker, Bells(database.files))
error = JobError("exception", "ValueError", "no") if state == "failed" else None
ending = Ending(state=state, error=error)
while sys.stdin.readline():
    claim = claims.claim(["default"])
    print(claim.id, flush=True)
    moment = int(sys.stdin.readline())
    while time.monotonic_ns() < moment:
        pass
    begun = time.monotonic_ns()
    _, following = claims.end_and_claim(claim, ending, ["after"])
    print(following.id if following else "", begun, time.monotonic_ns(), flush=True)
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens in one round.

    Attributes:
        allow_failures: as for the batch.
        failing: the jobs that fail for good, and how.
        seconds: how long each job takes.
        cancelled_at: the batch is cancelled when so many jobs are pending; -1 for never.
    """

    allow_failures: bool
    failing: dict[int, str]
    seconds: list[float]
    cancelled_at: int

    @classmethod
    def of_round(cls, number: int) -> Self:
        """The same for the same number; four in a row have each kind of batch."""
        random = Random(number)
        allow_failures, cancelled = number % 2 == 0, number % 4 >= 2
        # Where the first failure ends the batch, it comes late or never.
        first, most = (0, SIZE // 10) if allow_failures else (SIZE // 2, random.choice([0, 3]))
        failing = random.sample(range(first, SIZE), random.randint(min(1, most), most))
        return cls(
            allow_failures=allow_failures,
            failing={each: random.choice(["at-once", "every-try"]) for each in failing},
            seconds=[random.uniform(0.01, 0.06) for _ in range(SIZE)],
            cancelled_at=random.randint(SIZE // 4, SIZE * 3 // 4) if cancelled else -1,
        )

    def batch(self, folder: Path) -> BatchMessage:
        """The batch of the round."""
        jobs = [
            Job(
                "deliver",
                {
                    "folder": str(folder),
                    "seconds": self.seconds[number],
                    "fails": self.failing.get(number, ""),
                },
            )
            for number in range(SIZE)
        ]
        return batch_of("batch", jobs, folder, allow_failures=self.allow_failures)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the file and the notes of the handlers tell after a round.

    Attributes:
        batch: the batch.
        states: how many of its jobs are in which state.
        callbacks: the rows of its callbacks, by their ids.
        came_due: how often each callback came due.
        runs: the processes of the runs of each try of each job, in order.
        recoveries: how often a job was put back because its worker had died.
    """

    batch: BatchStatus
    states: Counter[str]
    callbacks: dict[str, dict[str, object]]
    came_due: Counter[str]
    runs: dict[tuple[str, int], list[int]]
    recoveries: int


def batch_of(
    id: str,
    jobs: list[Job],
    folder: Path,
    *,
    callback_queue: str | None = None,
    **options: object,
) -> BatchMessage:
    """A batch as the receiver decodes it, with callbacks whose ids end with their role."""
    then, catch, finally_ = (
        Job("report", {"folder": str(folder)}, id=f"{id}-{role}", queue=callback_queue)
        for role in CALLBACKS
    )
    body = encode_batch(
        *(jobs, "default", datetime.now(UTC)), then=then, catch=catch, finally_=finally_, **options
    )
    return decode_batch(id, body)


def counters(batch: BatchStatus) -> list[object]:
    """What the job ``report`` tells of a batch."""
    return [
        *(batch.state, batch.total, batch.pending),
        *(batch.succeeded, batch.failed, batch.cancelled),
    ]


@pytest.fixture
def count_due(database):
    """Counts in the file itself how often each callback comes due; tells the counts."""
    with database.write() as connection:
        connection.execute(LOG)
        connection.execute(WRITE_LOG)

    def counts() -> Counter[str]:
        with database.read() as connection:
            return Counter(id for (id,) in connection.execute("SELECT id FROM came_due"))

    return counts


@pytest.fixture
def runs(tmp_path) -> Callable[[], dict[tuple[str, int], list[int]]]:
    """Reads the processes in which each try of each job was run, in order."""

    def read() -> dict[tuple[str, int], list[int]]:
        found: dict[tuple[str, int], list[int]] = {}
        for line in (tmp_path / "runs").read_text("ascii").splitlines():
            id, attempt, pid = line.split()
            found.setdefault((id, int(attempt)), []).append(int(pid))
        return found

    return read


@pytest.fixture
def start_parcels(start_work):
    """Starts workers for the application ``parcels``."""
    return lambda *arguments: start_work(*arguments, DISPATCHER_MODULES="parcels")


# Rounds of random kills


@pytest.fixture
def kill_a_worker(jobs):
    """Kills a random one of the workers, and tells its process; None where that one starts yet."""

    def kill(random: Random) -> int | None:
        living = [worker for worker in jobs.workers() if not worker.gone()]
        number = random.randrange(WORKERS)
        if number >= len(living):
            return None
        victim = living[number]
        with suppress(ProcessLookupError):
            handle = os.pidfd_open(victim.pid)
            try:
                if not victim.gone():  # so the handle is the worker's, not a successor's
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                    return victim.pid
            finally:
                os.close(handle)
        return None

    return kill


@pytest.fixture
def end_under_kills(queue, database, kill_a_worker):
    """Kills workers until every job has ended; tells whom, and whether the batch was cancelled."""

    def unfinished() -> int:
        with database.read() as connection:
            (count,) = connection.execute(
                "SELECT count(*) FROM job WHERE finished_at IS NULL"
            ).fetchone()
        return int(count)

    def run(plan: Plan, random: Random) -> tuple[list[int], bool]:
        begun = time.monotonic()
        next_kill = begun + random.uniform(0, KILL_EVERY)
        killed: list[int] = []
        answer = None
        while unfinished():
            assert time.monotonic() - begun < LONGEST_ROUND, queue.find_batch("batch")
            if answer is None and queue.find_batch("batch").pending <= plan.cancelled_at:
                answer = queue.cancel_batch("batch").state
            if time.monotonic() >= next_kill:
                killed += filter(None, [kill_a_worker(random)])
                next_kill = time.monotonic() + KILL_EVERY
            time.sleep(0.005)
        return killed, answer in ("running", "cancelled")

    return run


@pytest.fixture
def outcome(queue, jobs, database, count_due, runs):
    """Looks at what became of the batch."""

    def look() -> Outcome:
        with database.read() as connection:
            states = connection.execute(
                "SELECT state FROM job WHERE batch_id = 'batch' AND callback_delay IS NULL"
            ).fetchall()
            (recoveries,) = connection.execute("SELECT sum(kills) FROM job").fetchone()
        return Outcome(
            batch=queue.find_batch("batch"),
            states=Counter(state for (state,) in states),
            callbacks={role: jobs.row(f"batch-{role}") for role in CALLBACKS},
            came_due=count_due(),
            runs=runs(),
            recoveries=recoveries,
        )

    return look


@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_batch_is_exact_while_workers_are_killed(
    number, queue, outcome, tmp_path, start_parcels, end_under_kills
):
    """200 jobs on 4 workers, one of which is killed each 100 ms: all counts, each callback once.

    Every counter is the number of rows in that state; then, catch and finally came due as the
    rules say, once, and ran; nothing was run again but after a kill.
    """
    plan = Plan.of_round(number)
    start_parcels("--processes", str(WORKERS))
    queue.put_batch(plan.batch(tmp_path))
    begun = time.monotonic()
    killed, cancelled = end_under_kills(plan, Random())
    took = time.monotonic() - begun
    seen = outcome()
    print(f"round {number}: {took:.1f} s, {len(killed)} kills, {seen.recoveries} under a job;")
    print(f"  {plan.allow_failures=} {cancelled=} {counters(seen.batch)} {dict(seen.came_due)}")
    check_counters(seen, plan, cancelled=cancelled)
    check_callbacks(seen, plan, cancelled=cancelled)
    check_runs(seen, killed)


def check_counters(seen: Outcome, plan: Plan, *, cancelled: bool) -> None:
    """Every counter is the number of jobs in that state, and the state follows from them."""
    batch = seen.batch
    assert (batch.total, batch.pending) == (SIZE, 0)
    counted = {"succeeded": batch.succeeded, "failed": batch.failed, "cancelled": batch.cancelled}
    assert seen.states == Counter(counted)
    assert sum(counted.values()) == SIZE
    if cancelled:
        assert batch.state == "cancelled"
    elif plan.allow_failures:
        assert (batch.state, batch.cancelled) == ("succeeded", 0)
        assert batch.failed >= len(plan.failing)
    else:
        assert batch.state == ("failed" if batch.failed else "succeeded")
        assert batch.failed or not batch.cancelled


def check_callbacks(seen: Outcome, plan: Plan, *, cancelled: bool) -> None:
    """Those that the rules want came due once and ran; the others are cancelled for good."""
    wanted = {"finally"}
    if seen.batch.failed:
        wanted.add("catch")
    if not cancelled and (plan.allow_failures or not seen.batch.failed):
        wanted.add("then")
    assert seen.came_due == Counter(f"batch-{role}" for role in wanted)
    for role, row in seen.callbacks.items():
        if role not in wanted:
            assert (row["state"], row["attempt"]) == ("cancelled", 0)
        elif row["kills"] == 3:
            assert (row["state"], row["error_code"]) == ("failed", "worker-died")
        else:
            assert (row["state"], row["attempt"]) == ("succeeded", 1)
            told = json.loads(row["result"])
            assert told == counters(seen.batch) if role != "catch" else told[4] >= 1


def check_runs(seen: Outcome, killed: list[int]) -> None:
    """A try was run again only where the process of the run before was killed."""
    for (id, attempt), pids in seen.runs.items():
        assert set(pids[:-1]) <= set(killed), (id, attempt, pids)
    assert seen.recoveries <= len(killed)
    for role, row in seen.callbacks.items():
        assert ((f"batch-{role}", 1) in seen.runs) >= (row["state"] == "succeeded")
        assert len(seen.runs.get((f"batch-{role}", 1), ())) <= row["kills"] + 1


# Races for the last job


@dataclass(frozen=True, slots=True)
class Enders:
    """Two programs that claim a job each, and end both at one moment.

    Attributes:
        programs: they.
    """

    programs: list[subprocess.Popen[str]]

    def tell(self, line: object) -> list[list[str]]:
        """The words that each of them answers to a line."""
        for program in self.programs:
            program.stdin.write(f"{line}\n")
            program.stdin.flush()
        return [program.stdout.readline().split() for program in self.programs]

    def race(self) -> tuple[list[str], bool]:
        """What they claim after the end of their jobs, and whether both ended at one time."""
        moment = time.monotonic_ns() + HEAD_START
        ((*first, begun, ended), (*second, began, end)) = self.tell(moment)
        return first + second, int(begun) < int(end) and int(began) < int(ended)


@pytest.fixture
def enders(script, path):
    """Starts two programs, which end each job in these states."""

    def start(states: tuple[str, str]) -> Enders:
        return Enders(
            [script(ENDER, path, f"worker-{turn}", state) for turn, state in enumerate(states)]
        )

    return start


@pytest.mark.parametrize(
    ("states", "wanted"),
    [
        (("succeeded", "succeeded"), ("then", "finally")),
        (("failed", "failed"), ("catch", "finally")),
        (("succeeded", "failed"), ("catch", "finally")),
    ],
)
def test_the_last_two_jobs_end_at_the_same_moment(
    states, wanted, queue, claims, count_due, enders, tmp_path
):
    """500 times two processes end the last two jobs: each callback comes due and is run once."""
    both = enders(states)
    expected: Counter[str] = Counter()
    claimed: Counter[str] = Counter()
    overlaps = 0
    for turn in range(RACES):
        jobs = [Job("note", {"folder": ""}, id=f"{turn}-{number}") for number in range(2)]
        queue.put_batch(batch_of(f"race-{turn}", jobs, tmp_path, callback_queue="after"))
        assert sorted(both.tell("claim")) == [[f"{turn}-0"], [f"{turn}-1"]]
        followers, together = both.race()
        overlaps += together
        claimed.update(followers)
        while (claim := claims.claim(["after"])) is not None:
            claimed[claim.id] += 1
        expected.update(f"race-{turn}-{role}" for role in wanted)
        batch = queue.find_batch(f"race-{turn}")
        assert (batch.pending, batch.succeeded) == (0, states.count("succeeded"))
    print(f"{overlaps} of {RACES} pairs of ends overlapped")
    assert claimed == expected == count_due()
    assert overlaps > RACES // 20


# Jobs that add jobs


@pytest.mark.parametrize("how", ["killed", "failed"])
@pytest.mark.parametrize(("before", "after"), [(5, 0), (3, 2)])
def test_jobs_added_by_a_run_that_did_not_end_are_there_once(
    before, after, how, queue, jobs, tmp_path, start_parcels, runs
):
    """A handler adds jobs, is killed or fails, and runs again: the batch has each job once."""
    start_parcels("--processes", "2")
    payload = {"folder": str(tmp_path), "before": before, "after": after, "how": how}
    queue.put_batch(batch_of("batch", [Job("grow", payload, id="grow")], tmp_path))
    assert jobs.ended("batch-finally").result == ["succeeded", 6, 0, 6, 0, 0]
    grow = jobs.row("grow")
    assert (grow["kills"], grow["attempt"]) == ((1, 1) if how == "killed" else (0, 2))
    runs_of_added = [len(pids) for (id, _), pids in runs().items() if is_added(id)]
    assert runs_of_added == [1] * 5


def is_added(id: str) -> bool:
    """Whether the job was added by the job ``grow``."""
    return id != "grow" and not id.startswith("batch-")


# What callbacks see


def test_callbacks_see_the_final_counters(queue, jobs, tmp_path, start_parcels):
    """In then and finally, batch() tells what the batch has come to."""
    start_parcels("--processes", "2")
    deliveries = [
        Job("deliver", {"folder": str(tmp_path), "seconds": 0, "fails": fails})
        for fails in ["", "", "at-once", "", "every-try", ""]
    ]
    queue.put_batch(batch_of("batch", deliveries, tmp_path, allow_failures=True))
    for role in ("then", "finally"):
        assert jobs.ended(f"batch-{role}").result == ["succeeded", 6, 0, 4, 2, 0]
        assert jobs.status(f"batch-{role}").batch_id == "batch"
    assert jobs.ended("batch-catch").result[4] >= 1
    assert counters(queue.find_batch("batch")) == ["succeeded", 6, 0, 4, 2, 0]
