"""Requests that servers read differently: refused, or taken for what was signed, never a crash.

Each of them is signed rightly, so that it would be queued if anything on the way let it through.
"""

import http.client
import os
import select
from contextlib import suppress

import pytest

from dispatcher_core.names import new_id

GOOD = b'{"type":"dispatch","job":"send-mail","payload":{"to":"ann"}}'
# What a server may say by itself of a request that it cannot read.
OWN = {400, 404, 405, 411, 413, 417, 431, 501}


def head(server, id, *fields, method="POST", path="/dispatch", signed=GOOD, age=0, version="1.1"):
    """The head of a signed request with these header fields besides."""
    headers = server.headers(id, signed, age=age)
    lines = [f"{name}: {value}" for name, value in headers.items()]
    first = f"{method} {server.prefix}{path} HTTP/{version}"
    return "\r\n".join([first, "host: 127.0.0.1", *lines, *fields, "", ""]).encode()


def chunked(body, size=7):
    """A body in chunks."""
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in [*parts, b""])


def check(server, data, id, what=""):
    """The request is refused, or the connection closed, and nothing is queued.

    Where the server is known to put such a thing right by itself, the job may be queued as well.
    """
    reply = server.exchange(data)
    taken = reply is not None and reply.status == 202
    assert reply is None or reply.status in OWN or taken, reply
    assert not taken or what in server.deployment.mends, reply
    assert server.knows(id) == taken
    assert server.request("GET", "/health").status == 200


def test_a_chunked_body(server):
    """It is refused with 411, or read by the server and taken whole, as it was signed."""
    id = new_id()
    check(server, head(server, id, "transfer-encoding: chunked") + chunked(GOOD), id, "chunked")


def test_a_body_without_a_length(server):
    """A POST that tells no length has no body: 411, or what an empty body is answered."""
    id = new_id()
    check(server, head(server, id, signed=b""), id)


LENGTHS = {
    "negative": ["content-length: -1"],
    "signed": [f"content-length: +{len(GOOD)}"],
    "no-number": ["content-length: many"],
    "hexadecimal": ["content-length: 0x3c"],
    "two": [f"content-length: {len(GOOD)}", "content-length: 5"],
    "endless": ["content-length: 99999999999999999999999999"],
    "blank-in-name": [f"content-length : {len(GOOD)}"],
}


@pytest.mark.parametrize("what", LENGTHS)
def test_a_length_that_misleads(server, what):
    """A body whose end could be seen in two places is not taken."""
    id = new_id()
    check(server, head(server, id, *LENGTHS[what]) + GOOD, id, what)


CODINGS = {
    "with-chunks": [f"content-length: {len(GOOD)}", "transfer-encoding: chunked"],
    "unknown-coding": ["transfer-encoding: chunked, gzip"],
    "folded": ["transfer-encoding:", " chunked", f"content-length: {len(GOOD)}"],
    "other-letters": ["transfer-encoding: xchunked"],
}


@pytest.mark.parametrize("what", CODINGS)
def test_a_coding_that_misleads(server, what):
    """A body that could be read with and without its chunks is not taken."""
    id = new_id()
    check(server, head(server, id, *CODINGS[what]) + chunked(GOOD), id, what)


PATHS = ["//dispatch", "/%2e%2e/dispatch", "/dispatch/", "/x/../dispatch", "/dispatch%0a",
         "/dispatch?x=1", "/dispatch;x", "/%ff"]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_a_path_in_another_spelling(server, path):
    """A path that is not written as the wire format has it is refused."""
    id = new_id()
    data = head(server, id, f"content-length: {len(GOOD)}", path=path) + GOOD
    check(server, data, id, path)


@pytest.mark.parametrize("number", [1, 2])
def test_a_header_with_underscores(server, number):
    """It stands in for no header: what is queued has the id that was signed, or nothing is."""
    id, other = new_id(), new_id()
    fields = [f"content-length: {len(GOOD)}", f"webhook_id: {other}"]
    reply = server.exchange(head(server, id, *fields[::number]) + GOOD)
    assert reply.status in {202, 400, 401, 411}
    assert server.knows(id) == (reply.status == 202)
    assert not server.knows(other)


def test_a_sender_that_waits_for_leave(server):
    """``Expect: 100-continue`` is answered, or the sender goes on by itself after a moment."""
    id = new_id()
    fields = [f"content-length: {len(GOOD)}", "expect: 100-continue"]
    with server.open_socket() as connection:
        connection.sendall(head(server, id, *fields))
        select.select([connection], [], [], 0.5)  # RFC 9110, section 10.1.1: not for ever
        connection.sendall(GOOD)
        assert server.answer_on(connection).status == 202
    assert server.knows(id)


def test_an_answer_to_head_has_no_body(server):
    """HEAD is 405 with nothing after the header: the next answer begins right there."""
    with server.open_socket() as connection:
        request = f"HEAD {server.prefix}/health HTTP/1.1\r\nhost: x\r\n\r\n".encode()
        connection.sendall(request)
        reply = server.answer_on(connection, "HEAD")
        assert (reply.status, reply.headers["allow"], reply.body) == (405, "GET", b"")
        with suppress(ConnectionError):
            connection.sendall(request)
        assert (server.answer_on(connection, "HEAD") or reply).status == 405


def test_the_body_of_a_refused_request_is_no_request(server):
    """What a server has left unread of a refused request is not taken for the next one."""
    id = new_id()
    inner = head(server, id, f"content-length: {len(GOOD)}") + GOOD
    outer = head(server, new_id(), f"content-length: {len(inner)}", age=1000)
    with server.open_socket() as connection:
        connection.sendall(outer + inner)
        assert server.answer_on(connection).refusal == (401, "timestamp-out-of-range")
        with suppress(ConnectionError):
            connection.sendall(f"GET {server.prefix}/health HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        following = server.answer_on(connection, "GET")
    assert following is None or following.json == {"status": "ok"}
    assert not server.knows(id)


@pytest.mark.parametrize("size", [len(GOOD) // 2, 0])
def test_a_sender_that_dies_in_mid_body(server, size):
    """A body that ends before its length is not taken, and holds nobody up."""
    id = new_id()
    with server.open_socket() as connection:
        connection.sendall(head(server, id, f"content-length: {len(GOOD)}") + GOOD[:size])
    assert server.request("GET", "/health").status == 200
    assert not server.knows(id)


NONSENSE = {
    "no-http": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "no-version": b"POST /dispatch\r\n\r\n",
    "version-9": b"POST /dispatch HTTP/9.0\r\nhost: x\r\n\r\n",
    "no-colon": b"POST /dispatch HTTP/1.1\r\nhost x\r\n\r\n",
    "nul": b"POST /dispatch HTTP/1.1\r\nhost: x\0y\r\n\r\n",
    "long-line": b"GET /" + b"x" * 70000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
    "long-header": b"GET /x HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 100000 + b"\r\n\r\n",
    "many-headers": b"GET /x HTTP/1.1\r\nhost: x\r\n" + b"x: y\r\n" * 5000 + b"\r\n",
}


@pytest.mark.parametrize("data", NONSENSE.values(), ids=NONSENSE)
def test_nonsense(server, data):
    """What is hardly HTTP gets the server's own refusal, or the connection closed."""
    try:
        reply = server.exchange(data)
    except http.client.HTTPException:
        reply = None  # a server answers in the older protocol, without a status line
    assert reply is None or 400 <= reply.status < 600, reply
    assert reply is None or reply.status in OWN | {401, 414, 505}, reply
    assert server.request("GET", "/health").status == 200


@pytest.mark.skipif(os.environ.get("SERVERS") != "all", reason="takes ten seconds for each server")
def test_a_body_that_does_not_come(server):
    """It holds nobody up, and is ended in ten seconds where something reads the clock."""
    id, ending = new_id(), server.deployment.stalled
    with server.open_socket() as connection:
        connection.sendall(head(server, id, f"content-length: {len(GOOD)}") + GOOD[:5])
        assert server.request("GET", "/health").status == 200
        if ending == "waits":
            return
        reply = server.answer_on(connection)
    assert (reply.json["code"] if reply else "closed") in ending.split(" or ")
    assert not server.knows(id)
