"""Threads that write at the same time share one commit."""

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from dispatcher_core import JobMessage, QueueUnavailable
from dispatcher_local_queue.groupcommit import GroupCommit


class Interrupted(BaseException):
    """Raised by a signal in the middle of anything, as Ctrl-C does."""


class Writer:
    """What a group writes with: keeps each commit, and can be held up in the middle of one.

    Attributes:
        attempts: the items of each call, in order.
        open: while it is clear, calls wait.
    """

    def __init__(self) -> None:
        self.attempts: list[list[str]] = []
        self.open = threading.Event()
        self.open.set()

    def __call__(self, items: Sequence[str]) -> list[str]:
        self.attempts.append(list(items))
        self.open.wait()
        self.judge(items)
        return [item.upper() for item in items]

    def judge(self, items: Sequence[str]) -> None:
        """Raise what is wrong with the items."""
        if "bad" in items:
            raise ValueError("bad")
        if "full" in items:
            raise QueueUnavailable("full")


@pytest.fixture
def writer() -> Iterator[Writer]:
    """What the group writes with."""
    writer = Writer()
    yield writer
    writer.open.set()


@pytest.fixture
def group(writer) -> GroupCommit[str, str]:
    """The group."""
    return GroupCommit(lambda item: writer([item])[0], writer)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Enough threads for every test."""
    with ThreadPoolExecutor(100) as threads:
        yield threads


@pytest.fixture
def hold_up(group, writer, threads, wait_until) -> Iterator[Callable[..., list[Future]]]:
    """Has a commit of ``first`` held up, and these items waiting behind it."""

    def hold_up(*items: str) -> list[Future]:
        writer.open.clear()
        futures = [threads.submit(group.add, "first")]
        wait_until(lambda: writer.attempts)
        for count, item in enumerate(items, start=1):
            futures.append(threads.submit(group.add, item))
            wait_until(lambda: len(group._waiting) == count)  # noqa: B023
        return futures

    yield hold_up
    writer.open.set()


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGALRM raises ``Interrupted``."""

    def ring(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, ring)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_a_lone_thread(group, writer) -> None:
    """A thread without company gets each of its items written at once."""
    assert [group.add(item) for item in "abc"] == ["A", "B", "C"]
    assert writer.attempts == [["a"], ["b"], ["c"]]


def test_threads_share_a_commit(group, writer, hold_up) -> None:
    """What comes while a commit is under way goes into the next one, each with its outcome."""
    futures = hold_up(*"abcdefgh")
    writer.open.set()
    assert [future.result(10) for future in futures] == ["FIRST", *"ABCDEFGH"]
    assert writer.attempts == [["first"], list("abcdefgh")]


def test_a_commit_has_its_limit(group, writer, hold_up) -> None:
    """A crowd is written in several commits, of 64 items at most."""
    futures = hold_up(*map(str, range(90)))
    writer.open.set()
    assert [future.result(10) for future in futures] == ["FIRST", *map(str, range(90))]
    assert [len(items) for items in writer.attempts] == [1, 64, 26]


def test_one_bad_item(group, writer, hold_up) -> None:
    """An item that fails, fails for its own thread only; the others are written singly."""
    futures = hold_up("a", "bad", "c")
    writer.open.set()
    assert [futures[place].result(10) for place in (0, 1, 3)] == ["FIRST", "A", "C"]
    with pytest.raises(ValueError, match="bad"):
        futures[2].result(10)
    assert writer.attempts[1:] == [["a", "bad", "c"], ["a"], ["bad"], ["c"]]


def test_nothing_can_be_written(group, writer, hold_up) -> None:
    """When the queue is not available, all learn it at once, each with an error of its own."""
    futures = hold_up("a", "full", "c")
    writer.open.set()
    assert futures[0].result(10) == "FIRST"
    errors = [future.exception(10) for future in futures[1:]]
    assert [str(error) for error in errors] == ["full"] * 3
    assert {type(error) for error in errors} == {QueueUnavailable}
    assert len({id(error) for error in errors}) == 3
    assert writer.attempts[1:] == [["a", "full", "c"]]
    assert group.add("later") == "LATER"


def test_a_slow_commit_slows_down_no_other(group) -> None:
    """After a commit that waited long for a lock, a leader does not wait as long for company."""
    group._shared, group._last_size, group._last_time = True, 3, 20.0
    started = time.monotonic()
    assert group.add("a") == "A"
    assert time.monotonic() - started < 2.0


@pytest.mark.parametrize("shared", [False, True], ids=["alone", "leading"])
def test_an_interrupted_leader(group, writer, threads, wait_until, interruptible, shared) -> None:
    """One that is interrupted in its commit holds up nobody: the others are written."""
    group._shared = shared
    followers: list[Future] = []

    def disturb() -> None:
        wait_until(lambda: writer.attempts)
        followers.extend(threads.submit(group.add, item) for item in "ab")
        wait_until(lambda: len(group._waiting) == 2 + shared)
        os.kill(os.getpid(), signal.SIGALRM)

    writer.open.clear()
    disturber = threads.submit(disturb)
    with pytest.raises(Interrupted):
        group.add("first")
    disturber.result(10)
    writer.open.set()
    assert [future.result(10) for future in followers] == ["A", "B"]
    assert "first" not in [item for items in writer.attempts[1:] for item in items]
    assert group.add("later") == "LATER"


@pytest.mark.parametrize("shared", [False, True], ids=["first", "behind others"])
def test_an_interrupted_follower(
    group, writer, hold_up, threads, wait_until, interruptible, shared
) -> None:
    """A thread that is interrupted while it waits does not lead when its turn comes."""
    group._shared = shared
    leader = hold_up()[0]
    behind: list[Future] = []

    def disturb() -> None:
        wait_until(lambda: len(group._waiting) == 1 + shared)
        behind.append(threads.submit(group.add, "behind"))
        wait_until(lambda: len(group._waiting) == 2 + shared)
        os.kill(os.getpid(), signal.SIGALRM)

    disturber = threads.submit(disturb)
    with pytest.raises(Interrupted):
        group.add("interrupted")
    disturber.result(10)
    writer.open.set()
    assert [future.result(10) for future in (leader, behind[0])] == ["FIRST", "BEHIND"]
    assert writer.attempts == [["first"], ["behind"]]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_interrupts_at_any_moment(threads, interruptible) -> None:
    """Interrupted at random hundreds of times, a group still serves every other thread."""
    group = GroupCommit(str.upper, lambda items: [item.upper() for item in items])
    over = threading.Event()

    def add_on(name: str) -> int:
        count = 0
        while not over.is_set():
            assert group.add(f"{name}{count}") == f"{name}{count}".upper()
            count += 1
        return count

    others = [threads.submit(add_on, name) for name in "xyz"]
    interrupts = 0
    until = time.monotonic() + 2.0
    try:
        while time.monotonic() < until:
            try:
                signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0002, 0.003))
                while True:
                    assert group.add("mine") == "MINE"
            except Interrupted:
                interrupts += 1
    finally:
        over.set()
    assert all(other.result(10) > 100 for other in others)
    assert interrupts > 50


def test_one_job_twice_in_a_group(queue, message, database, threads, wait_until) -> None:
    """Of one job that several threads put in one commit, one is new and the others are known."""
    queue.put(message())
    with database.write():
        leader = threads.submit(queue.put, message(id="first"))
        wait_until(queue._group._writing.locked)
        same = message(id="same")
        futures = [threads.submit(queue.put, same) for _ in range(6)]
        wait_until(lambda: len(queue._group._waiting) == 6)
    assert leader.result(10) is True
    assert sorted(future.result(10) for future in futures) == [False] * 5 + [True]


def test_many_threads(queue, message, database, threads) -> None:
    """Of 32 threads that put 200 jobs each, every job is kept, in far fewer commits."""
    commits: list[int] = []
    one, several = queue._group._write_one, queue._group._write_all

    def counted(jobs: Sequence[JobMessage]) -> Sequence[bool]:
        commits.append(len(jobs))
        return several(jobs)

    def counted_one(job: JobMessage) -> bool:
        commits.append(1)
        return one(job)

    queue._group._write_one, queue._group._write_all = counted_one, counted

    def put(thread: int) -> list[bool]:
        return [queue.put(message(id=f"{thread}-{number}")) for number in range(200)]

    assert list(threads.map(put, range(32))) == [[True] * 200] * 32
    with database.read() as connection:
        (count,) = connection.execute("SELECT count(DISTINCT id) FROM job").fetchone()
    assert count == sum(commits) == 6400
    assert len(commits) < 3200
