"""Reading answers strictly."""

import contextlib
import socket
from http.client import HTTPException, IncompleteRead, RemoteDisconnected

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher_http_sender.deadline import Deadline
from dispatcher_http_sender.failures import MalformedAnswer
from dispatcher_http_sender.incoming import Body, may_follow, read_body, read_head
from dispatcher_http_sender.reader import SocketReader

LIMIT = 1000
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@contextlib.contextmanager
def received(data):
    """A reader of just these bytes, after which the stream ends."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        yield SocketReader(ours, Deadline.after(30.0))


def read(data, method="GET"):
    """Head, body and what is left of some bytes."""
    with received(data) as reader:
        head = read_head(reader)
        body = read_body(reader, head, method, LIMIT)
        return head, body, reader.leftover


def test_head():
    """Status, reason and fields are told apart; names keep their case for urllib."""
    head, _, _ = read(
        b"HTTP/1.1 404 Not Found\r\nX-One:  1 \r\nx-two:2\nContent-Length: 0\r\n\r\n"
    )

    assert (head.version, head.status, head.reason) == (11, 404, "Not Found")
    assert dict(head.fields) == {"x-one": "1", "x-two": "2", "content-length": "0"}
    assert head.headers.items() == [("X-One", "1"), ("x-two", "2"), ("Content-Length", "0")]


def test_repeated_and_folded_fields():
    """Fields of one name are one list, a folded line is one line."""
    head, _, _ = read(OK + b"Via: a\r\nvia: b\r\nX: one\r\n\t two\r\nContent-Length: 0\r\n\r\n")

    assert (head.fields["via"], head.fields["x"]) == ("a, b", "one two")


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 200 a\rb\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        OK + b"no colon\r\n\r\n",
        OK + b"Space : 1\r\n\r\n",
        OK + b": 1\r\n\r\n",
        OK + b" folded: 1\r\n\r\n",
        OK + b"X: a\rb\r\n\r\n",
        OK + b"X: a\0b\r\n\r\n",
        OK + b"X: y\r\n" * 101 + b"\r\n",
        OK + b"X: " + b"y" * 65536 + b"\r\n\r\n",
        b"HTTP/1.1 200 " + b"y" * 65536,
    ],
)
def test_malformed_head(data):
    """A head that is not HTTP is an error, which does not quote it."""
    with pytest.raises(MalformedAnswer):
        read(data)


@pytest.mark.parametrize(
    "length", ["", "x", "+2", "-2", "2, 2", "2 2", "2_0", "0x2", "²", "9" * 19]
)
def test_doubtful_length(length):
    """A length that two readers could take differently is refused."""
    with pytest.raises(MalformedAnswer, match="Content-Length"):
        read(OK + f"Content-Length: {length}\r\n\r\n{{}}".encode("iso-8859-1"))


def test_two_lengths():
    """So are two lengths."""
    with pytest.raises(MalformedAnswer, match="Content-Length"):
        read(OK + b"Content-Length: 2\r\nContent-Length: 5\r\n\r\nhello")


@pytest.mark.parametrize(
    "size", [b"", b"x", b"+5", b"-5", b"0x5", b"5_0", b" 5", b"5 5", b"1" * 16]
)
def test_doubtful_chunk(size):
    """A chunk whose size two readers could take differently is refused."""
    with pytest.raises(MalformedAnswer, match="chunk"):
        read(CHUNKED + size + b"\r\nhello\r\n0\r\n\r\n")


def test_chunk_that_goes_on():
    """A chunk that is longer than it says is refused."""
    with pytest.raises(MalformedAnswer, match="chunk"):
        read(CHUNKED + b"4\r\nhello\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    ("data", "body", "whole", "leftover"),
    [
        (OK + b"Content-Length: 5\r\n\r\nhello", b"hello", True, False),
        (OK + b"Content-Length: 5\r\n\r\nhello, you", b"hello", True, True),
        (OK + b"\r\nhello, you", b"hello, you", False, False),
        (OK + b"Transfer-Encoding: gzip\r\n\r\nhello", b"hello", False, False),
        (OK + b"Transfer-Encoding: x, chunked\r\n\r\n0\r\n\r\n", b"0\r\n\r\n", False, False),
        (CHUNKED + b"5\r\nhello\r\n1;a=b\r\n!\r\n0\r\n\r\n", b"hello!", True, False),
        (CHUNKED + b"A\r\nhello, you\r\n00\r\nX: y\r\n\r\nmore", b"hello, you", True, True),
        (b"HTTP/1.1 204 None\r\nContent-Length: 5\r\n\r\nhello", b"", True, True),
        (b"HTTP/1.1 304 Same\r\n\r\nhello", b"", True, True),
        (
            b"HTTP/1.1 103 Hints\r\nX: y\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\n!",
            b"!",
            True,
            False,
        ),
    ],
)
def test_where_a_body_ends(data, body, whole, leftover):
    """A body ends where its header or its chunks say, else with the stream."""
    assert read(data)[1:] == (Body(body, whole), leftover)


def test_answer_to_head():
    """The answer to a HEAD has no body, whatever length it states."""
    assert read(OK + b"Content-Length: 5\r\n\r\n", "HEAD")[1] == Body(b"", True)


@pytest.mark.parametrize(
    "start", [OK + b"Content-Length: 2000\r\n\r\n", OK + b"\r\n", CHUNKED + b"7D0\r\n"]
)
def test_limit(start):
    """Of a body over the limit one byte more is read, and it is not whole."""
    assert read(start + b"x" * 2000)[1] == Body(b"x" * (LIMIT + 1), False)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", RemoteDisconnected),
        (b"HTTP/1.1 200", RemoteDisconnected),
        (OK + b"X: y\r\n", RemoteDisconnected),
        (OK + b"Content-Length: 5\r\n\r\nhell", IncompleteRead),
        (CHUNKED, RemoteDisconnected),
        (CHUNKED + b"5\r\nhell", IncompleteRead),
        (CHUNKED + b"5\r\nhello\r\n", RemoteDisconnected),
        (CHUNKED + b"5\r\nhello\r\n0\r\n", RemoteDisconnected),
        (CHUNKED + b"5\r\nhello\r\n0\r\nX: y\r\n", RemoteDisconnected),
    ],
)
def test_cut_off(data, error):
    """An answer that is cut off, wherever, is told from one that is not HTTP."""
    with pytest.raises(error):
        read(data)


@pytest.mark.parametrize(
    ("version", "fields", "follows"),
    [
        ("1.1", "", True),
        ("1.2", "", True),
        ("1.1", "Connection: close\r\n", False),
        ("1.1", "Connection: keep-alive, CLOSE\r\n", False),
        ("1.1", "Connection: closet\r\n", True),
        ("1.0", "", False),
        ("1.0", "Connection: keep-alive\r\n", True),
        ("1.0", "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n", False),
        ("1.1", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", False),
    ],
)
def test_may_follow(version, fields, follows):
    """The header says whether the connection takes another request."""
    with received(f"HTTP/{version} 200 OK\r\n{fields}\r\n".encode()) as reader:
        assert may_follow(read_head(reader)) is follows


PARTS = st.sampled_from(
    [OK, b"HTTP/1.", b"Content-Length: ", b"Transfer-Encoding: chunked", b"5", b"0", b"\r\n", b":"]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PARTS | st.binary(max_size=8), max_size=20).map(b"".join))
def test_any_bytes(data):
    """Whatever comes is an answer or one of the documented errors, and nothing is invented."""
    try:
        _, body, _ = read(data)
    except (HTTPException, OSError):
        return
    assert len(body.data) <= LIMIT + 1
    assert body.data in data or b"chunked" in data
