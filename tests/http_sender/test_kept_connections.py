"""Connections that are kept, against real servers on loopback."""

import contextlib
import gc
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import urllib.request
import weakref

import pytest

from dispatcher_core.errors import SendFailed
from dispatcher_core.protocols import Request
from dispatcher_http_sender import UrllibSender
from dispatcher_http_sender.connections import DeadlineHTTPConnection, Message, Place
from dispatcher_http_sender.deadline import Deadline
from dispatcher_http_sender.handlers import (
    DeadlineHTTPHandler,
    DeadlineHTTPSHandler,
    build_director,
)

MEBIBYTE = 1024 * 1024


def answer(status="200 OK", body=b"{}", *headers):
    """A whole answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def body_of(request):
    return request.partition(b"\r\n\r\n")[2]


def echoing(connection, server):
    """Answer each request with its own body, until the client leaves."""
    while True:
        connection.sendall(answer("200 OK", body_of(server.read_request(connection))))


def repeating(data):
    """A script that answers each request with this, until the client leaves."""

    def script(connection, server):
        while True:
            server.read_request(connection)
            connection.sendall(data)

    return script


def in_turn(*scripts):
    """A script that is another one for each connection, the last one for all the rest."""
    left = list(scripts)

    def script(connection, server):
        (left.pop(0) if len(left) > 1 else left[0])(connection, server)

    return script


def reset(connection):
    """Close so that the other side sees a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def echo_of(sender, url, body, timeout=10.0):
    return sender.send(Request("POST", url, {}, body), timeout).body


def test_connection_is_kept(serve):
    """Requests that follow each other share one connection."""
    server = serve(echoing)

    with UrllibSender() as sender:
        bodies = [echo_of(sender, server.url, b"%d" % number) for number in range(5)]

    assert bodies == [b"0", b"1", b"2", b"3", b"4"]
    assert server.connections == 1


def test_no_connection_close(serve):
    """A request does not ask for the connection to be closed."""
    server = serve(echoing)

    with UrllibSender() as sender:
        echo_of(sender, server.url, b"x")

    assert b"connection:" not in server.requests[0].lower()


def test_one_call(serve, monkeypatch):
    """Header and body of a small request are handed to the system at once."""
    server = serve(echoing)
    sent = []
    genuine = socket.socket.send

    def noting(sock, data):
        sent.append(bytes(data))
        return genuine(sock, data)

    monkeypatch.setattr(socket.socket, "send", noting)
    with UrllibSender() as sender:
        echo_of(sender, server.url, b"the body")

    assert sent == server.requests


@pytest.mark.parametrize("handlers", [[DeadlineHTTPHandler], []], ids=["ours", "default"])
def test_opener_of_the_caller(serve, handlers):
    """An opener with the handlers of this package keeps connections, through errors too."""
    server = serve(repeating(answer("409 Conflict", b"no")))
    opener = urllib.request.build_opener(*handlers)

    with UrllibSender(opener) as sender:
        answers = [sender.send(Request("GET", server.url, {}), 10.0) for _ in range(3)]

    assert [(one.status, one.body) for one in answers] == [(409, b"no")] * 3
    assert server.connections == (1 if handlers else 3)


def test_threads_have_a_connection_each(serve):
    """16 threads get their own answers, over no more than 16 connections."""
    server = serve(echoing)
    wrong = []

    with UrllibSender() as sender:

        def send(thread):
            for number in range(20):
                body = b"%d-%d" % (thread, number)
                if echo_of(sender, server.url, body, 30.0) != body:
                    wrong.append(body)

        threads = [threading.Thread(target=send, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert wrong == []
    assert len(server.requests) == 320
    assert server.connections <= 16


def test_server_that_closes_after_answering(serve):
    """A connection that the server closed meanwhile is replaced, and nothing is seen of it."""

    def once(connection, server):
        connection.sendall(answer("200 OK", body_of(server.read_request(connection))))

    server = serve(once)

    with UrllibSender() as sender:
        bodies = [echo_of(sender, server.url, b"%d" % number) for number in range(3)]

    assert bodies == [b"0", b"1", b"2"]
    assert server.connections == 3


def lose_the_second(connection, server):
    """Answer one request, and reset the connection at the next."""
    connection.sendall(answer("200 OK", body_of(server.read_request(connection))))
    server.read_request(connection)
    reset(connection)


def close_at_the_second(connection, server):
    """Answer one request, and close the connection at the next."""
    connection.sendall(answer("200 OK", body_of(server.read_request(connection))))
    server.read_request(connection)


@pytest.mark.parametrize("script", [lose_the_second, close_at_the_second])
@pytest.mark.parametrize("secured", [False, True], ids=["plain", "tls"])
def test_request_that_a_kept_connection_loses(serve, request, script, secured):
    """It is sent again at once over a fresh connection, byte by byte the same."""
    contexts = ("server_context", "client_context")
    ours, theirs = map(request.getfixturevalue, contexts) if secured else (None, None)
    server = serve(in_turn(script, echoing), ours)
    handler = DeadlineHTTPSHandler(theirs) if secured else DeadlineHTTPHandler()

    with UrllibSender(build_director([handler])) as sender:
        bodies = [echo_of(sender, server.url, b"one"), echo_of(sender, server.url, b"two")]

    assert bodies == [b"one", b"two"]
    assert server.connections == 2
    first, second, again = server.requests
    assert second == again != first


def test_fresh_connection_is_not_tried_again(serve):
    """A fresh connection that is reset is an error: the next try is not the sender's."""

    def script(connection, server):
        server.read_request(connection)
        reset(connection)

    server = serve(script)

    with UrllibSender() as sender, pytest.raises(SendFailed) as caught:
        echo_of(sender, server.url, b"x")

    assert caught.value.code == "unreachable"
    assert len(server.requests) == 1


def test_answer_that_has_begun_is_not_asked_for_again(serve):
    """A kept connection that breaks within an answer is an error."""

    def script(connection, server):
        server.read_request(connection)
        connection.sendall(answer())
        server.read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n")

    server = serve(script)

    with UrllibSender() as sender:
        echo_of(sender, server.url, b"one")
        with pytest.raises(SendFailed) as caught:
            echo_of(sender, server.url, b"two")

    assert caught.value.code == "unreachable"
    assert server.connections == 1


@pytest.mark.parametrize("secured", [False, True], ids=["plain", "tls"])
def test_bytes_after_an_answer(serve, request, secured):
    """An answer that nobody asked for is not taken for that to the next request."""

    def script(connection, server):
        while True:
            body = body_of(server.read_request(connection))
            connection.sendall(answer("200 OK", body) + answer("200 OK", b"forged"))

    contexts = ("server_context", "client_context")
    ours, theirs = map(request.getfixturevalue, contexts) if secured else (None, None)
    server = serve(script, ours)
    handler = DeadlineHTTPSHandler(theirs) if secured else DeadlineHTTPHandler()

    with UrllibSender(build_director([handler])) as sender:
        bodies = [echo_of(sender, server.url, body) for body in (b"one", b"two")]

    assert bodies == [b"one", b"two"]
    assert server.connections == 2


def test_bytes_while_idle(serve):
    """Nor is one that comes while the connection waits."""
    forge, forged = threading.Event(), threading.Event()

    def script(connection, server):
        connection.sendall(answer("200 OK", body_of(server.read_request(connection))))
        forge.wait(30)
        connection.sendall(answer("200 OK", b"forged"))
        forged.set()
        server.read_request(connection)

    server = serve(in_turn(script, echoing))

    with UrllibSender() as sender:
        first = echo_of(sender, server.url, b"one")
        forge.set()
        assert forged.wait(30)
        second = echo_of(sender, server.url, b"two")

    assert (first, second) == (b"one", b"two")
    assert server.connections == 2


def test_late_answer(serve):
    """An answer that comes after its request has timed out is not taken for another's."""
    late = threading.Event()

    def script(connection, server):
        connection.sendall(answer("200 OK", body_of(server.read_request(connection))))
        body = body_of(server.read_request(connection))
        late.wait(30)
        connection.sendall(answer("200 OK", body))

    server = serve(in_turn(script, echoing))

    with UrllibSender() as sender:
        echo_of(sender, server.url, b"one")
        with pytest.raises(SendFailed) as caught:
            echo_of(sender, server.url, b"two", 0.3)
        late.set()
        third = echo_of(sender, server.url, b"three")

    assert caught.value.code == "timeout"
    assert third == b"three"
    assert server.connections == 2


def test_drip_on_a_kept_connection(serve):
    """A deadline bounds a drip on a kept connection too; it is the deadline of this request."""

    def script(connection, server):
        server.read_request(connection)
        connection.sendall(answer())
        server.read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        while not server.stopping.wait(0.05):
            connection.sendall(b"X")

    server = serve(script)
    with UrllibSender() as sender:
        echo_of(sender, server.url, b"one", 60.0)
        began = time.monotonic()
        with pytest.raises(SendFailed) as caught:
            echo_of(sender, server.url, b"two", 0.5)

    assert caught.value.code == "timeout"
    assert 0.5 <= time.monotonic() - began < 20
    assert server.connections == 1


@pytest.mark.parametrize("size", [1, 16])
def test_early_refusal_on_a_kept_connection(serve, size):
    """An answer that comes before the body was sent is seen, and ends the connection."""

    def script(connection, server):
        connection.sendall(answer("200 OK", body_of(server.read_request(connection))))
        connection.recv(1024)
        connection.sendall(answer("413 Content Too Large", b'{"code":"too-large"}'))

    server = serve(in_turn(script, echoing))

    with UrllibSender() as sender:
        echo_of(sender, server.url, b"one")
        refusal = sender.send(Request("POST", server.url, {}, b"x" * (size * MEBIBYTE)), 20.0)
        third = echo_of(sender, server.url, b"three")

    assert (refusal.status, refusal.body) == (413, b'{"code":"too-large"}')
    assert third == b"three"
    assert server.connections == 2


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"


@pytest.mark.parametrize(
    ("data", "kept"),
    [
        (answer(), True),
        (answer("200 OK", b"{}", "Connection: keep-alive"), True),
        (answer("500 Internal Server Error", b"oops"), True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", True),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + answer(), True),
        (CHUNKED + b"\r\n5\r\nhello\r\n0\r\n\r\n", True),
        (CHUNKED + b"\r\n5\r\nhello\r\n0\r\nX-Trailer: 1\r\n\r\n", True),
        (answer("200 OK", b"{}", "Connection: Keep-Alive").replace(b"1.1", b"1.0"), True),
        (answer("200 OK", b"{}", "Connection: close"), False),
        (answer("200 OK", b"{}", "Connection: x, Close"), False),
        (answer().replace(b"1.1", b"1.0"), False),
        (CHUNKED + b"Content-Length: 15\r\n\r\n5\r\nhello\r\n0\r\n\r\n", False),
    ],
)
def test_what_keeps_a_connection(serve, data, kept):
    """A connection is kept where the end of the answer is certain, and the server agrees."""
    server = serve(repeating(data))

    with UrllibSender() as sender:
        for _ in range(3):
            sender.send(Request("GET", server.url, {}), 10.0)

    assert server.connections == (1 if kept else 3)


def test_oversized_answer_ends_the_connection(serve):
    """The rest of an answer that is too long is not read, nor taken for the next one."""
    server = serve(in_turn(repeating(answer("200 OK", b"x" * (MEBIBYTE + 1))), echoing))

    with UrllibSender() as sender:
        with pytest.raises(SendFailed, match="1048576 bytes"):
            echo_of(sender, server.url, b"one")
        assert echo_of(sender, server.url, b"two") == b"two"

    assert server.connections == 2


def test_places_do_not_share_connections(serve):
    """Two servers have a connection each."""
    servers = [serve(echoing), serve(echoing)]

    with UrllibSender() as sender:
        for _ in range(2):
            for server in servers:
                echo_of(sender, server.url, b"x")

    assert [server.connections for server in servers] == [1, 1]


def secure_sender(context):
    return UrllibSender(build_director([DeadlineHTTPSHandler(context)]))


def test_tls_connection_is_kept(serve, server_context, client_context):
    """The same over TLS."""
    server = serve(echoing, server_context)

    with secure_sender(client_context) as sender:
        bodies = [echo_of(sender, server.url, b"%d" % number) for number in range(3)]

    assert bodies == [b"0", b"1", b"2"]
    assert server.connections == 1


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_session_is_resumed(serve, server_context, client_context, version):
    """A connection that takes the place of another resumes its session."""
    client_context.minimum_version = client_context.maximum_version = version
    resumed = []

    def script(connection, server):
        server.read_request(connection)
        resumed.append(connection.session_reused)
        connection.sendall(answer("200 OK", b"{}", "Connection: close"))

    server = serve(script, server_context)

    with secure_sender(client_context) as sender:
        for _ in range(3):
            echo_of(sender, server.url, b"x")

    assert resumed == [False, True, True]


def test_tls_session_of_a_lost_request_is_not_resumed(serve, server_context, client_context):
    """A connection that was not answered leaves no session: it may be what the server minds."""
    resumed = []

    def script(connection, server):
        server.read_request(connection)
        resumed.append(connection.session_reused)
        if len(resumed) != 2:
            connection.sendall(answer("200 OK", b"{}", "Connection: close"))

    server = serve(script, server_context)

    with secure_sender(client_context) as sender:
        echo_of(sender, server.url, b"one")
        with pytest.raises(SendFailed):
            echo_of(sender, server.url, b"two")
        echo_of(sender, server.url, b"three")

    assert resumed == [False, True, False]


def test_tls_session_is_of_one_server(serve, server_context, client_context):
    """A session is not offered to another name: the certificate is verified for it."""
    server = serve(repeating(answer("200 OK", b"{}", "Connection: close")), server_context)

    with secure_sender(client_context) as sender:
        echo_of(sender, server.url, b"x")
        with pytest.raises(SendFailed) as caught:
            echo_of(sender, server.url.replace("127.0.0.1", "localhost"), b"x")

    assert caught.value.code == "tls-failed"


@pytest.fixture
def through(monkeypatch):
    """A sender that goes through a proxy."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)

    def sender(proxy, context=None):
        proxies = urllib.request.ProxyHandler({"http": proxy, "https": proxy})
        handlers = [proxies, DeadlineHTTPHandler(), DeadlineHTTPSHandler(context)]
        return UrllibSender(build_director(handlers))

    return sender


def test_proxy_connection_is_kept(serve, through):
    """Requests to several servers share a connection to the proxy between."""
    proxy = serve(echoing)

    with through(f"http://{proxy.place}") as sender:
        for host in ("a.invalid", "b.invalid"):
            assert echo_of(sender, f"http://{host}/dispatch", host.encode()) == host.encode()

    assert proxy.connections == 1
    assert [request.partition(b" HTTP/1.1\r\n")[0] for request in proxy.requests] == [
        b"POST http://a.invalid/dispatch",
        b"POST http://b.invalid/dispatch",
    ]


def tunnelling(context):
    """A script that opens a tunnel whose other end is the server itself."""

    def script(connection, server):
        server.read_request(connection)
        connection.sendall(b"HTTP/1.1 200 Connection established\r\nX-Proxy: 1\r\n\r\n")
        with context.wrap_socket(connection, server_side=True) as secured:
            echoing(secured, server)

    return script


def test_tunnel_is_kept(serve, server_context, client_context, through):
    """A tunnel is opened once for many requests, and its password stays with the proxy."""
    proxy = serve(tunnelling(server_context))

    with through(f"http://user:pass@{proxy.place}", client_context) as sender:
        for body in (b"one", b"two"):
            assert echo_of(sender, "https://127.0.0.1:9/dispatch", body) == body

    assert proxy.connections == 1
    opening, *requests = proxy.requests
    assert opening.startswith(b"CONNECT 127.0.0.1:9 HTTP/1.")
    assert b"Proxy-Authorization: Basic dXNlcjpwYXNz" in opening
    assert [body_of(request) for request in requests] == [b"one", b"two"]
    assert all(b"proxy-authorization" not in request.lower() for request in requests)
    assert all(b"\r\nHost: 127.0.0.1:9\r\n" in request for request in requests)


def test_tunnels_are_told_apart(serve, server_context, client_context, through):
    """A tunnel to one server is not used for another."""
    proxy = serve(tunnelling(server_context))

    with through(f"http://{proxy.place}", client_context) as sender:
        for port in (8, 9, 8, 9):
            echo_of(sender, f"https://127.0.0.1:{port}/dispatch", b"x")

    openings = [request for request in proxy.requests if request.startswith(b"CONNECT")]
    assert [opening.partition(b" HTTP/1.")[0] for opening in openings] == [
        b"CONNECT 127.0.0.1:8",
        b"CONNECT 127.0.0.1:9",
    ]


@pytest.fixture
def watched(serve):
    """A server that says when a client has left, and the event that says so."""
    left = threading.Event()

    def script(connection, server):
        with contextlib.suppress(ConnectionError):
            echoing(connection, server)
        left.set()

    return serve(script), left


def test_close(watched):
    """A sender that is closed keeps no connection, and can still be used."""
    server, left = watched
    sender = UrllibSender()
    echo_of(sender, server.url, b"one")

    sender.close()

    assert left.wait(30)
    with sender:
        assert echo_of(sender, server.url, b"two") == b"two"
    assert server.connections == 2


def test_sender_that_is_gone(watched):
    """A sender that nobody has any more has closed its connections."""
    server, left = watched
    sender = UrllibSender()
    echo_of(sender, server.url, b"one")

    del sender
    gc.collect()

    assert left.wait(30)


def test_connection_is_no_cycle(serve):
    """A connection is gone with who had it, without the garbage collector."""
    server = serve(echoing)
    connection = DeadlineHTTPConnection(Place(server.place))
    message = Message("POST", "/dispatch", {}, b"x")
    gc.disable()
    try:
        assert connection.exchange(message, Deadline.after(10.0)).body == b"x"
        connection.close()
        known = weakref.ref(connection)
        del connection
        assert known() is None
    finally:
        gc.enable()


FORKING = """
import os, sys
from dispatcher_core.protocols import Request
from dispatcher_http_sender import UrllibSender

sender = UrllibSender()

def check(body):
    assert sender.send(Request("POST", sys.argv[1], {}, body), 20.0).body == body

check(b"parent")
if not os.fork():
    check(b"child")
    check(b"child again")
    sys.exit()
assert os.wait()[1] == 0
check(b"parent again")
"""


def test_fork(serve):
    """A fork makes its own connection; that of its parent goes on."""
    server = serve(echoing)

    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", FORKING, server.url],
        capture_output=True,
        timeout=60,
    )

    assert (done.returncode, done.stderr) == (0, b"")
    bodies = [body_of(request) for request in server.requests]
    assert bodies == [b"parent", b"child", b"child again", b"parent again"]
    assert server.connections == 2
