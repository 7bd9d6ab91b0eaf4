"""The pool of connections that wait."""

import gc
import os
import socket
import threading
import time
import tracemalloc

import pytest

from dispatcher_http_sender import pool as pool_module
from dispatcher_http_sender.connections import DeadlineHTTPConnection, Place
from dispatcher_http_sender.pool import ConnectionPool


@pytest.fixture
def connect():
    """Makes connections, each with the server's end of it."""
    ends: list[DeadlineHTTPConnection | socket.socket] = []

    def make():
        connection = DeadlineHTTPConnection(Place("127.0.0.1"))
        connection.sock, other = socket.socketpair()
        ends.extend([connection, other])
        return connection, other

    yield make
    for end in ends:
        end.close()


@pytest.fixture
def pool():
    kept = ConnectionPool()
    yield kept
    kept.close()


def test_take_what_was_put(pool, connect):
    """A connection is taken once, the one used last before the others."""
    first, second = connect()[0], connect()[0]
    pool.put("a", first)
    pool.put("a", second)

    assert [pool.take("a") for _ in range(3)] == [second, first, None]


def test_places_are_told_apart(pool, connect):
    """A connection to one place is not handed out for another."""
    pool.put("a", connect()[0])

    assert pool.take("b") is None
    assert pool.take("a") is not None


def test_closed_by_the_server(pool, connect):
    """A connection that the server closed is closed, and the next one taken."""
    (good, _), (bad, server) = connect(), connect()
    pool.put("a", good)
    pool.put("a", bad)
    server.close()

    assert pool.take("a") is good
    assert bad.sock is None


def test_bytes_that_nobody_asked_for(pool, connect):
    """A connection on which something came is closed."""
    connection, server = connect()
    pool.put("a", connection)
    server.sendall(b"HTTP/1.1 200 OK\r\n")

    assert pool.take("a") is None
    assert connection.sock is None


def test_too_old(pool, connect, monkeypatch):
    """A connection that waited too long is not handed out."""
    connection, _ = connect()
    pool.put("a", connection)
    monkeypatch.setattr(pool_module, "IDLE_SECONDS", -1.0)

    assert pool.take("a") is None
    assert connection.sock is None


def test_too_old_elsewhere(pool, connect, monkeypatch):
    """What waited too long is closed though nobody asks for its place again."""
    connection, _ = connect()
    pool.put("a", connection)
    monkeypatch.setattr(pool_module, "IDLE_SECONDS", -1.0)

    pool.put("b", connect()[0])

    assert connection.sock is None


def test_inherited_by_a_fork(pool, connect, monkeypatch):
    """What another process has put there is closed and not handed out."""
    (first, _), (second, _), (third, _) = connect(), connect(), connect()
    pool.put("a", first)
    pool.put("b", second)
    monkeypatch.setattr(os, "getpid", lambda: -1)

    assert pool.take("a") is None
    pool.put("a", third)

    assert (first.sock, second.sock) == (None, None)
    assert pool.take("a") is third


def test_too_many(pool, connect, monkeypatch):
    """Of too many connections to a place the one that waits longest is closed."""
    monkeypatch.setattr(pool_module, "MOST_IDLE", 2)
    first, second, third = connect()[0], connect()[0], connect()[0]
    for connection in (first, second, third):
        pool.put("a", connection)

    assert first.sock is None
    assert [pool.take("a"), pool.take("a"), pool.take("a")] == [third, second, None]


def test_close(pool, connect):
    """A pool that is closed has closed its connections, and takes new ones."""
    first, second = connect()[0], connect()[0]
    pool.put("a", first)

    pool.close()
    pool.put("a", second)

    assert first.sock is None
    assert pool.take("a") is second


def test_pool_that_is_gone(connect):
    """A pool that nobody has any more has closed its connections."""
    connection, _ = connect()
    ConnectionPool().put("a", connection)

    gc.collect()

    assert connection.sock is None


def test_pools_leave_nothing_behind():
    """However many pools were made, nothing is kept of them."""
    pools = 2000
    tracemalloc.start()
    try:
        ConnectionPool()
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(pools):
            ConnectionPool()
        gc.collect()
        kept = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()

    assert kept < 50 * pools


def test_threads_do_not_share_a_connection(pool, connect):
    """What one thread has taken no other thread gets, until it is put back."""
    for _ in range(4):
        pool.put("a", connect()[0])
    taken, shared = set(), []

    def work():
        for _ in range(200):
            connection = pool.take("a")
            if connection is None:
                continue
            if connection in taken:
                shared.append(connection)
            taken.add(connection)
            time.sleep(0)  # lets another thread have a try
            taken.discard(connection)
            pool.put("a", connection)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert shared == []
    assert sum(pool.take("a") is not None for _ in range(5)) == 4
