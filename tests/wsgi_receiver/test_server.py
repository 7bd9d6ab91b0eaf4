"""The server of the standard library, in this process."""

import json
import logging
import socket
import threading
import time
from contextlib import ExitStack, suppress

import pytest

from dispatcher_core.signing import Signer
from dispatcher_wsgi_receiver.server import Server


class Gate:
    """An application that answers once it is let."""

    def __init__(self) -> None:
        self.entered, self.open = threading.Event(), threading.Event()

    def __call__(self, environ, start_response):
        """Wait, then answer."""
        self.entered.set()
        self.open.wait(20)
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
        return [b"ok"]


@pytest.fixture
def serve():
    """Serves an application until the test ends."""
    started = []

    def start(app, **options):
        server = Server("127.0.0.1", 0, app, **options)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        started.append((server, thread))
        return server

    yield start
    for server, thread in started:
        server.shutdown()
        thread.join()
        server.server_close()
        server.drain(5)


@pytest.fixture
def browser(serve, make_client, queue, browser_of):
    """Requests to a receiver behind the server."""
    return browser_of(serve(make_client(queue, clock=time.time).app).server_port)


def wait_until(condition):
    """Wait until something holds; it must within 20 s."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_job_comes_over_a_socket(browser, queue):
    """A signed dispatch over HTTP is accepted, and its status can be asked for."""
    body = b'{"type":"dispatch","job":"send-mail","payload":{"to":"ann"}}'
    assert browser.signed("POST", "/dispatch", body, "job-1").status == 202
    assert browser.signed("GET", "/jobs/job-1").json["state"] == "queued"
    assert [job.id for job in queue.jobs] == ["job-1"]


def test_a_lost_answer_makes_no_second_job(browser, queue, secret):
    """A client that is cut off before it has its answer may send the same again."""
    body = b'{"type":"dispatch","job":"send-mail","payload":{"to":"ann"}}'
    timestamp = int(time.time())
    data = (
        "POST /dispatch HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\nwebhook-id: job-1\r\nwebhook-timestamp: {timestamp}\r\n"
        f"webhook-signature: {Signer(secret).sign('job-1', timestamp, body)}\r\n\r\n"
    ).encode()
    with socket.create_connection(("127.0.0.1", browser.port), timeout=20) as connection:
        connection.sendall(data + body)
        wait_until(lambda: queue.jobs)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    again = browser.exchange(data + body)
    assert again.split()[1] == b"200"
    assert b'"duplicate":true' in again
    assert len(queue.jobs) == 1


def test_requests_are_answered_side_by_side(serve, browser_of):
    """A request that takes long does not keep others waiting."""
    gate = Gate()
    browser = browser_of(serve(gate).server_port)
    replies = []
    threads = [
        threading.Thread(target=lambda: replies.append(browser.request("GET", "/")))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    wait_until(lambda: threading.active_count() > 6)
    gate.open.set()
    for thread in threads:
        thread.join()
    assert [reply.status for reply in replies] == [200] * 3


def test_an_oversized_body_is_answered_unread(browser):
    """A client that sends too much gets its 413, although nobody reads what it sends."""
    connection = socket.create_connection(("127.0.0.1", browser.port), timeout=20)
    head = (
        "POST /dispatch HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        "content-length: 99999999\r\nwebhook-id: a\r\nwebhook-timestamp: 1234567890\r\n"
        "webhook-signature: v1,x\r\n\r\n"
    )
    with connection, connection.makefile("rb") as stream:
        connection.sendall(head.encode())
        with suppress(OSError):
            connection.sendall(b"x" * 65536)
        assert stream.readline().split()[1] == b"413"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ("transfer-encoding: chunked", 411),
        ("transfer-encoding: chunked\r\ncontent-length: 5", 411),
        ("x: y", 411),
        ("content-length: -1", 400),
        ("content-length: +5", 400),
        ("content-length: 50", 400),
        ("content-length: 5\r\ncontent-encoding: gzip", 415),
    ],
)
def test_bodies_that_mislead(browser, fields, status):
    """Lengths that would make a server wait or misread are answered at once."""
    timestamp = int(time.time())
    data = (
        "POST /dispatch HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nwebhook-id: a\r\n"
        f"webhook-timestamp: {timestamp}\r\nwebhook-signature: v1,x\r\n{fields}\r\n\r\n5\r\nabc"
    )
    assert browser.exchange(data.encode()).split()[1] == str(status).encode()


@pytest.mark.parametrize("target", ["http://evil.example/ping", "/%2e/ping", "/ping/", "/ping%00"])
def test_targets_that_mislead(browser, target):
    """A request target that is written in another way is 404."""
    data = f"GET {target} HTTP/1.1\r\nhost: x\r\n\r\n".encode()
    assert browser.exchange(data).split()[1] == b"404"


def test_a_header_under_an_alias_does_not_replace_it(browser):
    """Underscores for hyphens make the same header twice, which is refused."""
    timestamp = int(time.time())
    data = (
        f"GET /ping HTTP/1.1\r\nhost: x\r\nwebhook-id: a\r\nWebhook_Id: b\r\n"
        f"webhook-timestamp: {timestamp}\r\nwebhook-signature: v1,x\r\n\r\n"
    )
    assert browser.exchange(data.encode()).split()[1] == b"400"


def test_a_request_is_one_line_of_the_log(browser, caplog):
    """The log has client, request and status; of query, headers and body nothing."""
    caplog.set_level(logging.INFO, "dispatcher.server")
    browser.request("POST", "/nothing?card=4711", b"payload", {"x-key": "secret-key"})
    wait_until(lambda: caplog.records)
    (line,) = [record.getMessage() for record in caplog.records if "server" in record.name]
    assert line == "127.0.0.1 'POST /nothing' 404"


@pytest.mark.parametrize(
    "data",
    [
        b"GET /\x1b[31m\x85\rforged HTTP/1.1\r\n\r\n",
        b"GET /\xe2\x80\xa8forged HTTP/1.1\r\n\r\n",
        b"\x1b[31m\x85 \xff\r\n\r\n",
        b"GET / HTTP/9\x1b[31m\r\n\r\n",
        b"GET /" + b"x" * 70000 + b" HTTP/1.1\r\n\r\n",
    ],
)
def test_no_request_forges_a_line_of_the_log(browser, caplog, data):
    """Whatever is sent, what is logged of it is short, printable and ASCII."""
    caplog.set_level(logging.INFO)
    browser.exchange(data)
    wait_until(lambda: caplog.records)
    for record in caplog.records:
        line = record.getMessage()
        assert line.isascii()
        assert line.isprintable()
        assert len(line) < 1000


def test_a_client_that_goes_away_is_one_line_of_the_log(browser, caplog, capfd):
    """A connection that is reset leaves no traceback on the terminal."""
    connection = socket.create_connection(("127.0.0.1", browser.port))
    linger = b"\x01\0\0\0\0\0\0\0"
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    connection.close()
    assert browser.request("GET", "/health").status == 200
    wait_until(lambda: any("broke" in record.getMessage() for record in caplog.records))
    assert "Traceback" not in capfd.readouterr().err + caplog.text


def test_drain_waits_for_what_is_being_answered(serve, browser_of):
    """A request that has come in is answered before drain returns."""
    gate = Gate()
    server = serve(gate)
    replies = []
    request = threading.Thread(
        target=lambda: replies.append(browser_of(server.server_port).request("GET", "/"))
    )
    request.start()
    assert gate.entered.wait(20)
    drained = threading.Thread(target=server.drain, args=(20,))
    drained.start()
    assert drained.is_alive()
    gate.open.set()
    drained.join(20)
    request.join(20)
    assert [reply.status for reply in replies] == [200]


def test_drain_ends_connections_that_say_nothing(serve):
    """A client that connects and is silent does not hold the server up."""
    server = serve(Gate())
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as idle:
        wait_until(lambda: any("process_request" in t.name for t in threading.enumerate()))
        started = time.monotonic()
        server.drain(0.1)
        assert idle.recv(1) == b""
        assert time.monotonic() - started < 5


def answering():
    """The threads that answer connections in this process."""
    return [thread for thread in threading.enumerate() if "process_request" in thread.name]


def test_no_more_connections_are_taken_than_there_is_room_for(serve):
    """Of 150 requests that come at once 128 are answered side by side, the others after them."""
    gate = Gate()
    place = ("127.0.0.1", serve(gate).server_port)
    most = 0
    with ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(place, timeout=20)) for _ in range(150)
        ]
        for client in clients:
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        wait_until(lambda: len(answering()) >= 128)
        until = time.monotonic() + 0.2
        while time.monotonic() < until:
            most = max(most, len(answering()))
        gate.open.set()
        for client in clients:
            with client:
                assert client.recv(12) == b"HTTP/1.0 200"
    assert most == 128


def test_a_full_server_can_be_stopped(serve):
    """Waiting for room does not hold up the end."""
    server = serve(Gate())
    with ExitStack() as stack:
        for _ in range(140):
            place = ("127.0.0.1", server.server_port)
            stack.enter_context(socket.create_connection(place, timeout=20))
        wait_until(lambda: len(answering()) == 128)
        started = time.monotonic()
        server.shutdown()
        assert time.monotonic() - started < 5


def test_a_client_that_still_sends_is_not_reset(serve, monkeypatch):
    """What an application leaves unread is read away after the answer, which so gets through."""
    monkeypatch.setattr("dispatcher_wsgi_receiver.server._LINGER_SECONDS", 20.0)
    gate = Gate()
    gate.open.set()
    place = ("127.0.0.1", serve(gate).server_port)
    size = 16 * 1024 * 1024
    with socket.create_connection(place, timeout=20) as client, client.makefile("rb") as stream:
        client.sendall(b"POST / HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size)
        client.shutdown(socket.SHUT_WR)
        assert stream.read().startswith(b"HTTP/1.0 200")


def test_an_answer_is_not_the_servers_to_end_twice(make_client, queue):
    """A refusal of an unread body is a plain list where the server itself lets its client read."""
    parts = {"REQUEST_METHOD": "POST", "PATH_INFO": "/nothing", "CONTENT_LENGTH": "5"}
    with socket.socket() as connection:
        environ = {**parts, "dispatcher.socket": connection}
        body = make_client(queue).app(environ, lambda status, headers: None)
    assert not hasattr(body, "close")


def test_a_taken_port_is_an_error(serve):
    """Two servers cannot have the same port."""
    port = serve(Gate()).server_port
    with pytest.raises(OSError, match="in use"):
        Server("127.0.0.1", port, Gate())


def test_an_ipv6_address_is_written_in_brackets():
    """The URL of a server on an IPv6 address can be used as it is printed."""
    server = Server("::1", 0, Gate())
    server.server_close()
    assert server.url == f"http://[::1]:{server.server_port}"


def test_the_answer_is_whole_json(browser):
    """What comes over the socket is as long as it says."""
    reply = browser.request("GET", "/health")
    assert int(reply.headers["content-length"]) == len(reply.body)
    assert json.loads(reply.body) == {"status": "ok"}
