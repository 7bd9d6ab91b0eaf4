"""Deadlines for what comes over a socket."""

import multiprocessing
import os
import socket
import threading
import time

import pytest

from dispatcher_wsgi_receiver.watchdog import Watchdog

NEVER = 1000.0
forks = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


@pytest.fixture
def pair():
    """Makes two sockets that are connected: one is watched, the other sends."""
    made = []

    def make():
        made.extend(sockets := socket.socketpair())
        for each in sockets:
            each.settimeout(20)
        return sockets

    yield make
    for each in made:
        each.close()


def threads():
    """The threads of watchdogs in this process."""
    return {thread for thread in threading.enumerate() if thread.name == "dispatcher-watchdog"}


def test_a_read_ends_at_the_deadline(pair):
    """A read that waits ends as if the client had closed, and an answer can be written."""
    ours, theirs = pair()
    with Watchdog().limit(ours, 0.05) as deadline:
        assert ours.recv(1) == b""
    assert deadline.passed
    ours.sendall(b"too late")
    assert theirs.recv(100) == b"too late"


def test_each_connection_has_its_own_deadline(pair):
    """A short deadline that comes after a long one is kept, and the long one is not touched."""
    watchdog = Watchdog()
    (slow, slow_client), (fast, _) = pair(), pair()
    with watchdog.limit(slow, NEVER) as late, watchdog.limit(fast, 0.05) as soon:
        assert fast.recv(1) == b""
        slow_client.sendall(b"x")
        assert slow.recv(1) == b"x"
    assert (soon.passed, late.passed) == (True, False)


def test_deadlines_pass_one_after_another(pair):
    """One thread ends many reads, the earliest first, whichever order they were asked in."""
    watchdog = Watchdog()
    before = threads()
    waits = (0.15, 0.05, 0.1, 0.05)
    connections = [pair()[0] for _ in waits]
    deadlines = [
        watchdog.start(connection, wait)
        for connection, wait in zip(connections, waits, strict=True)
    ]
    assert len(threads() - before) <= 1
    assert [connection.recv(1) for connection in connections] == [b""] * 4
    assert all(deadline.passed for deadline in deadlines)


def test_what_has_come_in_time_is_left_alone(pair):
    """A connection that is watched no more serves the next request."""
    watchdog = Watchdog()
    (ours, theirs), (other, _) = pair(), pair()
    with watchdog.limit(ours, 0.05) as deadline:
        pass
    with watchdog.limit(other, 0.1):
        assert other.recv(1) == b""
    assert not deadline.passed
    theirs.sendall(b"next")
    assert ours.recv(100) == b"next"


def test_a_connection_has_one_deadline(pair):
    """A new deadline takes the place of the one before, also a later one."""
    watchdog = Watchdog()
    (ours, theirs), (other, _) = pair(), pair()
    watchdog.start(ours, 0.05)
    watchdog.start(ours, NEVER)
    with watchdog.limit(other, 0.1):
        assert other.recv(1) == b""
    theirs.sendall(b"next")
    assert ours.recv(100) == b"next"


def test_a_deadline_that_is_extended_is_looked_at_anew(pair):
    """A deadline that was moved does not pass when it would have, but later, even so."""
    watchdog = Watchdog()
    (ours, theirs), (other, _) = pair(), pair()
    with watchdog.limit(ours, 0.3) as deadline:
        deadline.extend(0.5)
        with watchdog.limit(other, 0.4):
            assert other.recv(1) == b""
        theirs.sendall(b"x")
        assert (ours.recv(1), deadline.passed) == (b"x", False)
        assert ours.recv(1) == b""
    assert deadline.passed


def test_the_thread_ends_when_nothing_is_left(pair):
    """A watchdog that has nothing to watch has no thread, and starts one again."""
    watchdog = Watchdog()
    for _ in range(2):
        ours, _ = pair()
        before = threads()
        with watchdog.limit(ours, 0.05):
            assert ours.recv(1) == b""
        for started in threads() - before:
            started.join(20)
        assert threads() <= before


def test_requests_do_not_start_a_thread_each(pair):
    """Deadlines that are met at once share the thread of the first."""
    watchdog = Watchdog()
    ours, _ = pair()
    with watchdog.limit(ours, NEVER):
        first = threads()
    for _ in range(200):
        with watchdog.limit(ours, NEVER):
            pass
    assert threads() <= first


def test_a_connection_that_is_gone_does_no_harm(pair):
    """A connection that was closed before its deadline does not keep others from theirs."""
    watchdog = Watchdog()
    (gone, _), (ours, _) = pair(), pair()
    gone.close()
    watchdog.start(gone, 0.02)
    with watchdog.limit(ours, 0.05):
        assert ours.recv(1) == b""


def test_without_a_socket_nothing_is_watched():
    """Where the server gives no socket away, no thread is started."""
    before = threads()
    with Watchdog().limit(None, 0.0) as deadline:
        pass
    assert not deadline.passed
    assert threads() <= before


def read_under(watchdog, connection, answer):
    """In another process: how a read with a deadline ends."""
    with watchdog.limit(connection, 0.05) as deadline:
        answer.send((connection.recv(1), deadline.passed))


@forks
def test_a_fork_has_a_thread_of_its_own(pair):
    """A process that is forked while deadlines run keeps its own, and only those."""
    watchdog = Watchdog()
    (ours, _), (childs, _), (busy, busy_client) = pair(), pair(), pair()
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    with watchdog.limit(busy, NEVER):
        child = context.Process(target=read_under, args=(watchdog, childs, sending))
        child.start()
        assert receiving.poll(20)
        assert receiving.recv() == (b"", True)
        child.join(20)
        busy_client.sendall(b"x")
        assert busy.recv(1) == b"x"
    with watchdog.limit(ours, 0.05):
        assert ours.recv(1) == b""


@forks
def test_a_fork_under_the_lock_can_go_on(pair):
    """A fork that happens while another thread is inside does not wait for that thread."""
    watchdog = Watchdog()
    ours, _ = pair()
    stop = threading.Event()

    def churn():
        while not stop.is_set():
            with watchdog.limit(ours, NEVER):
                pass

    busy = threading.Thread(target=churn)
    busy.start()
    try:
        for _ in range(20):
            process = os.fork()
            if process == 0:
                use_and_exit(watchdog, ours)
            assert wait_for(process) == 0
    finally:
        stop.set()
        busy.join()


def use_and_exit(watchdog, connection):
    """End this process, with 0 if the watchdog works in it."""
    status = 1
    try:
        with watchdog.limit(connection, NEVER):
            status = 0
    finally:
        os._exit(status)


def wait_for(process):
    """The exit status of a process, which must end within 20 s."""
    deadline = time.monotonic() + 20
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(process, 9)
            os.waitpid(process, 0)
            return -9
        time.sleep(0.005)
