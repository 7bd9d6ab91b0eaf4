"""Connections that a refused request came over, and what they serve after that."""

import json
import socket
import time
from contextlib import suppress

import pytest

LISTENING = r"Listening at: http://127\.0\.0\.1:(\d+)"
BODY_TIMEOUT = 0.5

# A site that tells what it was asked and with which body, with a receiver beside it.
SITE = f"""\
import json
import os

from dispatcher_core.aliases import AliasRegistry
from dispatcher_core.signing import Signer
from dispatcher_wsgi_receiver import Receiver, mount
from dispatcher_wsgi_receiver.application import open_queue

asked = []


def site(environ, start_response):
    if environ["PATH_INFO"] != "/asked":
        asked.append(environ["PATH_INFO"])
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    answer = json.dumps({{"asked": asked, "body": body.decode()}}).encode()
    start_response("200 OK", [("Content-Length", str(len(answer)))])
    return [answer]


receiver = Receiver(
    Signer(os.environ["DISPATCHER_BACKEND_SECRET"]),
    open_queue("sqlite:///queue.sqlite3"),
    AliasRegistry({{"send-mail": lambda to: None}}),
    body_timeout={BODY_TIMEOUT},
)
app = mount(site, "/dispatcher", receiver)
"""


@pytest.fixture
def program(backend, start, tmp_path):
    """gunicorn with that site, in one process, so that it knows of all requests."""
    (tmp_path / "site_and_receiver.py").write_text(SITE)
    return start(
        backend,
        "gunicorn",
        *("--worker-class", "gthread", "--workers", "1", "--threads", "4"),
        *("--bind", "127.0.0.1:0", "--no-control-socket", "site_and_receiver:app"),
    )


@pytest.fixture
def browser(program, browser_of):
    """Requests to that site."""
    return browser_of(int(program.wait_for_output(LISTENING)[1]))


@pytest.fixture
def connection(browser):
    """One connection to it."""
    with socket.create_connection(("127.0.0.1", browser.port), timeout=20) as connection:
        yield connection


def head(length, path="/dispatcher/dispatch"):
    """The header of a request that is good but for its signature."""
    return (
        f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        f"content-length: {length}\r\nwebhook-id: a\r\nwebhook-timestamp: {int(time.time())}\r\n"
        f"webhook-signature: v1,{'A' * 43}=\r\n\r\n"
    ).encode()


def answer(connection):
    """The status and the content of the next answer on a connection, and what follows so far."""
    content = b""
    while b"\r\n\r\n" not in content:
        content += connection.recv(65536) or pytest.fail(f"no answer: {content!r}")
    top, _, rest = content.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in top.split(b"\r\n")[1:])
    while len(rest) < int(fields[b"content-length"]):
        rest += connection.recv(65536) or pytest.fail(f"half an answer: {rest!r}")
    return int(top.split()[1]), json.loads(rest)


def asked(browser):
    """The paths that the site was asked for."""
    return browser.request("GET", "/asked").json["asked"]


def test_a_refusal_does_not_reach_the_next_request(connection):
    """An upload that takes its time gets through, though the request before it was a forgery."""
    connection.sendall(head(2) + b"{}")
    status, content = answer(connection)
    assert (status, content["code"]) == (401, "bad-signature")
    connection.sendall(head(10, "/upload") + b"first")
    time.sleep(2 * BODY_TIMEOUT + 0.1)  # what is tested is that nothing happens in this time
    connection.sendall(b"later")
    assert answer(connection) == (200, {"asked": ["/upload"], "body": "firstlater"})


def test_late_bytes_of_a_body_are_no_request(browser, connection):
    """What comes of a body after its 408 is not taken for the next request."""
    connection.sendall(head(500))
    assert answer(connection)[0] == 408
    with suppress(ConnectionError):
        connection.sendall(b"GET /admin HTTP/1.1\r\nhost: x\r\n\r\n")
        assert connection.recv(65536) == b""
    assert asked(browser) == []


@pytest.mark.parametrize("path", ["dispatch", "nothing"], ids=["read", "unread"])
def test_bytes_that_do_not_stop_are_no_request(program, browser, connection, path):
    """A body that is sent all the time, before, at and after its deadline, is never a request."""
    request = b"GET /admin HTTP/1.1\r\nhost: x\r\n\r\n"
    connection.sendall(head(1024 * 1024, f"/dispatcher/{path}"))
    with suppress(ConnectionError):
        for _ in range(1024 * 1024 // len(request)):
            connection.sendall(request)
            time.sleep(0.0002)  # so that the body takes longer than it may
    assert asked(browser) == []
    assert "Traceback" not in program.output.read_text()


def test_a_refusal_that_was_not_read_ends_its_connection(program, browser, connection):
    """The client sees its answer and the end; the log says nothing of a broken connection."""
    connection.sendall(b"POST /dispatcher/dispatch HTTP/1.1\r\ncontent-length: 500\r\n\r\n{")
    assert answer(connection)[0] == 401
    assert connection.recv(1) == b""
    assert asked(browser) == []
    assert not {"ERROR", "Traceback"} & set(program.output.read_text().split())
