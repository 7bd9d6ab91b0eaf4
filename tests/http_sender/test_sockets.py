"""Connecting within a deadline."""

import socket

import pytest

from dispatcher_http_sender.deadline import Deadline
from dispatcher_http_sender.sockets import connect, resolve


def test_resolve_an_address():
    """An address is its own look-up."""
    ((family, kind, _, _, location),) = resolve("127.0.0.1", 80, Deadline.after(5.0))

    assert (family, kind) == (socket.AF_INET, socket.SOCK_STREAM)
    assert location == ("127.0.0.1", 80)


def test_resolve_a_name():
    """A name is looked up."""
    hosts = {location[0] for *_, location in resolve("localhost", 80, Deadline.after(5.0))}

    assert hosts <= {"127.0.0.1", "::1"}
    assert hosts


def test_next_address_is_tried(free_port, monkeypatch):
    """Where one address refuses, the next one is tried."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        good = (socket.AF_INET, socket.SOCK_STREAM, 0, "", listener.getsockname())
        bad = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", free_port))
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [bad, good])

        with connect("two.invalid", 80, Deadline.after(5.0)) as connection:
            assert listener.getsockname() == connection.getpeername()


def test_deadline_counts_down():
    """What remains is less than was given; past it there is only an error."""
    assert 0 < Deadline.after(5.0).remaining() <= 5.0
    with pytest.raises(TimeoutError):
        Deadline.after(0.0).remaining()
