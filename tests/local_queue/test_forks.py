"""A fork while threads use the queue, and what the fork may do."""

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from dispatcher_local_queue.forks import ForkGate

# Later versions of Python warn of forks beside threads, which are what this is about.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

FORK_WHILE_THREADS_PUT = """
import os, sys, threading, warnings
from dispatcher_core.wire import JobMessage
from dispatcher_local_queue import SQLiteQueue

warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads, which this is about
queue = SQLiteQueue(sys.argv[1])
over = threading.Event()
counts = [0] * 8

def put(name):
    new = queue.put(JobMessage(id=name, job="add", payload={}, queue="default", delay=0.0,
                               priority=0, trace=None))
    assert new and queue.find_job(name).state == "queued"

def put_on(thread):
    while not over.is_set():
        put(f"thread-{thread}-{counts[thread]}")
        counts[thread] += 1

threads = [threading.Thread(target=put_on, args=[thread]) for thread in range(8)]
for thread in threads:
    thread.start()
children = []
for child in range(30):
    pid = os.fork()
    if pid == 0:
        try:
            for number in range(3):
                put(f"child-{child}-{number}")
            os._exit(0)
        finally:
            os._exit(1)
    children.append(os.waitpid(pid, 0)[1])
over.set()
for thread in threads:
    thread.join()
print(children, sum(counts), sep="; ", flush=True)
"""

CLOSE_BEHIND_A_FORK = """
import os, sys
from dispatcher_core.wire import JobMessage
from dispatcher_local_queue import SQLiteQueue

queue = SQLiteQueue(sys.argv[1])

def put(name):
    queue.put(JobMessage(id=name, job="add", payload={}, queue="default", delay=0.0, priority=0,
                         trace=None))

put("parent")
to_child, to_parent = os.pipe(), os.pipe()
if os.fork() == 0:
    put("child-1")
    os.write(to_parent[1], b".")
    os.read(to_child[0], 1)
    put("child-2")
    os.write(to_parent[1], b".")
    os.read(to_child[0], 1)
    os._exit(0)
os.read(to_parent[0], 1)
queue.close()
os.write(to_child[1], b".")
os.read(to_parent[0], 1)
print("closed and put", flush=True)
sys.stdin.readline()
os.write(to_child[1], b".")
os.wait()
"""


@pytest.fixture
def closed() -> list[int]:
    """The processes in which the gate has closed what is not in use."""
    return []


class Owner:
    """What has connections to close before a fork."""

    def __init__(self, closed: list[int]) -> None:
        self._closed = closed
        self.gate = ForkGate(self.close)

    def close(self) -> None:
        self._closed.append(os.getpid())


@pytest.fixture
def owner(closed) -> Owner:
    """What the gate belongs to."""
    return Owner(closed)


def fork(act: Callable[[], bool]) -> int:
    """Fork, have the child do something, and tell its exit code: 0 where that was true."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(10)
        try:
            os._exit(0 if act() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def enter(owner: Owner) -> bool:
    with owner.gate:
        return True


def test_forks_beside_threads(script, path, database) -> None:
    """Forks made while eight threads put can put too, and what everybody put is kept."""
    process = script(FORK_WHILE_THREADS_PUT, path)
    codes, count = process.stdout.readline().split("; ")
    assert process.wait(20) == 0
    assert codes == str([0] * 30)
    with database.read() as connection:
        (found,) = connection.execute("SELECT count(*) FROM job").fetchone()
        (verdict,) = connection.execute("PRAGMA integrity_check").fetchone()
    assert (found, verdict) == (int(count) + 90, "ok")


def test_a_parent_that_closes(script, path, queue) -> None:
    """What a fork puts is kept, whatever its parent does to its own connections meanwhile."""
    process = script(CLOSE_BEHIND_A_FORK, path)
    assert process.stdout.readline() == "closed and put\n"
    known = [name for name in ("parent", "child-1", "child-2") if queue.find_job(name)]
    process.stdin.write("go\n")
    process.stdin.close()
    assert process.wait(20) == 0
    assert known == ["parent", "child-1", "child-2"]


def test_a_fork_waits_for_other_threads(owner, closed, wait_until) -> None:
    """A fork waits until the threads inside have left, closes, and only then is made."""
    inside = threading.Event()
    left: list[bool] = []

    def stay() -> None:
        with owner.gate:
            inside.set()
            wait_until(lambda: owner.gate._forking)
            assert closed == []
            left.append(True)

    with ThreadPoolExecutor(1) as threads:
        stayed = threads.submit(stay)
        assert inside.wait(10)
        assert fork(lambda: left == [True]) == 0
        stayed.result(10)
    assert closed == [os.getpid()]


def test_who_is_inside_goes_deeper(owner, wait_until) -> None:
    """A thread inside may enter once more while a fork waits for it; a new one must wait."""
    inside, done = threading.Event(), threading.Event()
    order: list[str] = []

    def go_deeper() -> None:
        with owner.gate:
            inside.set()
            wait_until(lambda: owner.gate._forking)
            newcomer.start()
            with owner.gate:
                order.append("deeper")

    def come_new() -> None:
        with owner.gate:
            order.append("new")
        done.set()

    newcomer = threading.Thread(target=come_new)
    first = threading.Thread(target=go_deeper)
    first.start()
    assert inside.wait(10)
    assert fork(lambda: order == ["deeper"]) == 0
    assert done.wait(10)
    assert order == ["deeper", "new"]
    for thread in (first, newcomer):
        thread.join()


def test_a_fork_from_inside(owner) -> None:
    """Who forks while it is inside itself does not wait for itself; both can enter again."""
    with owner.gate:
        assert fork(lambda: enter(owner)) == 0
    assert enter(owner)


def test_a_fork_within_a_read(queue, message, database) -> None:
    """A fork made in the middle of a read leaves the parent's connection alone."""
    job = message()
    queue.put(job)
    with database.read() as connection:
        assert fork(lambda: True) == 0
        assert connection.execute("SELECT count(*) FROM job").fetchone() == (1,)
    assert queue.put(job) is False


def test_a_gate_is_forgotten(closed) -> None:
    """What is gone is not closed before a fork, and keeps no memory."""
    owner = Owner(closed)
    del owner
    assert fork(lambda: True) == 0
    assert closed == []


def test_two_forks_at_once(owner, wait_until) -> None:
    """The gate stays shut until the last of several forks is made."""
    entered: list[bool] = []

    def come_in() -> None:
        with owner.gate:
            entered.append(True)

    newcomer = threading.Thread(target=come_in)
    with ThreadPoolExecutor(1) as other:
        owner.gate._shut()
        other.submit(owner.gate._shut).result(10)
        owner.gate._open()
        newcomer.start()
        wait_until(lambda: newcomer.ident not in owner.gate._inside or entered)
        assert entered == []
        other.submit(owner.gate._open).result(10)
    newcomer.join(10)
    assert entered == [True]
