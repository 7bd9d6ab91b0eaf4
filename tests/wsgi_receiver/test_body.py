"""What kind of body, how long, and the bytes."""

import io
import socket

import pytest

from dispatcher_wsgi_receiver.body import (
    BIG_BODY,
    PIECE,
    BigBodies,
    announces_body,
    body_length,
    check_media_type,
    check_no_body,
    client_socket,
    kept_socket,
    read_body,
)
from dispatcher_wsgi_receiver.problems import Refusal
from dispatcher_wsgi_receiver.watchdog import Deadline


def read(stream, length: int, *, passed: bool = False) -> bytes:
    """The body in a stream, under a deadline that has passed or never does."""
    return read_body(stream, length, Deadline(0.0, passed), BigBodies())


class Trickle:
    """A stream that gives one byte at a time, and breaks after the last."""

    def __init__(self, content: bytes) -> None:
        self._stream = io.BytesIO(content)
        self.asked: list[int] = []

    def read(self, size: int, /) -> bytes:
        """One byte."""
        self.asked.append(size)
        byte = self._stream.read(1)
        if not byte:
            raise ConnectionResetError
        return byte


@pytest.mark.parametrize(
    "value",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        'application/json;charset="UTF-8"',
        "application/json ; Charset = Utf-8",
        "application/json; profile=x",
    ],
)
def test_json_is_taken(value):
    """JSON in UTF-8 is taken, however its parameters are written."""
    check_media_type({"CONTENT_TYPE": value})


@pytest.mark.parametrize(
    "value",
    [
        "",
        "text/plain",
        "application/problem+json",
        "application/jsonx",
        "application/json, text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=latin-1",
        "application/json; charset=utf-16",
        "application/json; x=1; CHARSET=us-ascii",
    ],
)
def test_other_media_types_are_refused(value):
    """Whatever is not JSON in UTF-8 is 415."""
    with pytest.raises(Refusal) as caught:
        check_media_type({"CONTENT_TYPE": value})
    assert caught.value.code == "unsupported-media-type"


@pytest.mark.parametrize("value", ["gzip", "identity", "br, gzip", ""])
def test_any_content_encoding_is_refused(value):
    """Nothing is unpacked, so that nothing can be a bomb: any Content-Encoding is 415."""
    with pytest.raises(Refusal) as caught:
        check_media_type({"CONTENT_TYPE": "application/json", "HTTP_CONTENT_ENCODING": value})
    assert caught.value.code == "unsupported-media-type"


@pytest.mark.parametrize(("text", "length"), [("0", 0), ("7", 7), ("007", 7), ("100", 100)])
def test_a_length_within_the_limit(text, length):
    """The length is what the header says, up to and including the limit."""
    assert body_length({"CONTENT_LENGTH": text}, 100) == length


@pytest.mark.parametrize(
    ("environ", "code"),
    [
        ({}, "length-required"),
        ({"CONTENT_LENGTH": ""}, "length-required"),
        ({"HTTP_TRANSFER_ENCODING": "chunked"}, "length-required"),
        ({"HTTP_TRANSFER_ENCODING": "identity", "CONTENT_LENGTH": "2"}, "length-required"),
        ({"HTTP_TRANSFER_ENCODING": "", "CONTENT_LENGTH": "2"}, "length-required"),
        ({"CONTENT_LENGTH": "101"}, "too-large"),
        ({"CONTENT_LENGTH": "9" * 30}, "too-large"),
        ({"CONTENT_LENGTH": "9" * 5000}, "too-large"),
        *(
            ({"CONTENT_LENGTH": text}, "malformed")
            for text in (
                "-1",
                "+1",
                " 1",
                "1 ",
                "1_0",
                "1.0",
                "1e2",
                "0x1",
                "1,1",
                "\u0661",
                "\xb9",
            )
        ),
    ],
)
def test_lengths_that_are_refused(environ, code):
    """A length that is missing, ill-formed or over the limit is refused by its code."""
    with pytest.raises(Refusal) as caught:
        body_length(environ, 100)
    assert caught.value.code == code


@pytest.mark.parametrize("environ", [{}, {"CONTENT_LENGTH": ""}, {"CONTENT_LENGTH": "0"}])
def test_no_body(environ):
    """A request without a body may say so, or nothing."""
    check_no_body(environ)


@pytest.mark.parametrize(
    ("environ", "code"),
    [
        ({"CONTENT_LENGTH": "1"}, "malformed"),
        ({"CONTENT_LENGTH": "-1"}, "malformed"),
        ({"HTTP_TRANSFER_ENCODING": "chunked"}, "length-required"),
    ],
)
def test_a_body_where_none_belongs(environ, code):
    """A body where none is signed is refused."""
    with pytest.raises(Refusal) as caught:
        check_no_body(environ)
    assert caught.value.code == code


def test_a_body_in_pieces_is_put_together():
    """A stream may give less than asked; no more is asked of it than is missing."""
    stream = Trickle(b"abcdef")
    assert read(stream, 5) == b"abcde"
    assert stream.asked == [5, 4, 3, 2, 1]


def test_a_body_is_not_read_beyond_its_length():
    """What follows the body stays in the stream."""
    stream = io.BytesIO(b"abcdef")
    assert read(stream, 4) == b"abcd"
    assert stream.read() == b"ef"


@pytest.mark.parametrize("stream", [io.BytesIO(b"abc"), Trickle(b"abc")])
def test_a_body_that_ends_short_is_refused(stream):
    """A body that ends, or whose connection breaks, before its length is malformed."""
    with pytest.raises(Refusal) as caught:
        read(stream, 4)
    assert caught.value.code == "malformed"


class Late:
    """A stream whose socket ran into a timeout of the server's."""

    def read(self, size: int, /) -> bytes:
        """Nothing."""
        raise TimeoutError


@pytest.mark.parametrize("stream", [io.BytesIO(), io.BytesIO(b"abc"), Trickle(b"abc")])
def test_a_body_that_ends_with_its_deadline_is_late(stream):
    """What is missing when the deadline has passed is told from what the client left out."""
    with pytest.raises(Refusal) as caught:
        read(stream, 4, passed=True)
    assert caught.value.code == "timeout"


def test_a_timeout_of_the_server_is_a_late_body():
    """A server that itself gives up waiting ends the request as the deadline does."""
    with pytest.raises(Refusal) as caught:
        read(Late(), 4)
    assert caught.value.code == "timeout"


class Watched:
    """A stream of zeros that notes, at each read, how much was asked and until when."""

    def __init__(self, deadline: Deadline, length: int) -> None:
        self._deadline, self._left = deadline, length
        self.reads: list[tuple[int, float]] = []

    def read(self, size: int, /) -> bytes:
        """As much as is asked, while there is any."""
        self.reads.append((size, self._deadline.at))
        given = min(size, self._left)
        self._left -= given
        return bytes(given)


@pytest.mark.parametrize(
    ("length", "seconds"), [(1, 10.0), (256 * 1024, 11.0), (1024 * 1024, 14.0), (2**24, 74.0)]
)
def test_a_longer_body_has_more_time(length, seconds):
    """A body has 10 s, and 1 s for each 256 KiB, when it has come."""
    deadline = Deadline(10.0)
    assert len(read_body(Watched(deadline, length), length, deadline, BigBodies())) == length
    assert deadline.at == pytest.approx(seconds, abs=0.001)


def test_time_is_granted_for_what_has_come():
    """To announce a long body gives no more time than to announce a short one."""
    deadline = Deadline(10.0)
    stream = Watched(deadline, 2 * PIECE)
    with pytest.raises(Refusal):
        read_body(stream, 16 * BIG_BODY, deadline, BigBodies())
    assert stream.reads == [(PIECE, 10.0), (PIECE, 11.0), (PIECE, 12.0)]


def test_only_what_has_shown_to_be_big_takes_a_place():
    """A big body needs a place from its second MiB on, and gives it back, also if it breaks."""
    big_bodies, deadline = BigBodies(1), Deadline(0.0)
    with big_bodies.slot():
        stream = Watched(deadline, 2 * BIG_BODY)
        with pytest.raises(Refusal) as caught:
            read_body(stream, 2 * BIG_BODY, deadline, big_bodies)
        assert caught.value.code == "unavailable"
        assert sum(size for size, _ in stream.reads) == BIG_BODY
        stream = Watched(deadline, BIG_BODY)
        assert len(read_body(stream, BIG_BODY, deadline, big_bodies)) == BIG_BODY
    with pytest.raises(Refusal) as caught:
        read_body(Watched(deadline, BIG_BODY + 1), 2 * BIG_BODY, deadline, big_bodies)
    assert caught.value.code == "malformed"
    stream = Watched(deadline, 2 * BIG_BODY)
    assert len(read_body(stream, 2 * BIG_BODY, deadline, big_bodies)) == 2 * BIG_BODY


@pytest.mark.parametrize("key", ["dispatcher.socket", "gunicorn.socket"])
def test_the_socket_of_a_request_is_found(key):
    """Our own server and gunicorn give the connection away."""
    with socket.socket() as connection:
        assert client_socket({key: connection}) is connection


@pytest.mark.parametrize("value", [None, "text", 5, object()])
def test_what_is_no_socket_is_left_alone(value):
    """Where a server gives something else under that name, there is no socket to shut."""
    assert client_socket({"gunicorn.socket": value}) is None
    assert client_socket({}) is None


def test_our_own_server_keeps_no_socket():
    """A connection that serves no other request anyway is left to the server."""
    with socket.socket() as connection:
        assert kept_socket({"gunicorn.socket": connection}) is connection
        assert kept_socket({"dispatcher.socket": connection}) is None


@pytest.mark.parametrize(
    ("environ", "announced"),
    [
        ({}, False),
        ({"CONTENT_LENGTH": ""}, False),
        ({"CONTENT_LENGTH": "0"}, False),
        ({"CONTENT_LENGTH": "5"}, True),
        ({"CONTENT_LENGTH": "-1"}, True),
        ({"HTTP_TRANSFER_ENCODING": "chunked"}, True),
        ({"CONTENT_LENGTH": "0", "HTTP_TRANSFER_ENCODING": ""}, True),
    ],
)
def test_a_body_is_announced(environ, announced):
    """Whatever makes a server wait for a body counts as one, also where it is ill-formed."""
    assert announces_body(environ) is announced
