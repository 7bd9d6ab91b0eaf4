"""The sender on requests: every outcome told by ``responses``, and real servers on loopback."""

import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
import responses

from dispatcher_core.errors import PluginNotFound, SendFailed
from dispatcher_core.plugins import SENDERS, load_plugin
from dispatcher_core.protocols import Request
from dispatcher_http_sender import requests_sender
from dispatcher_http_sender.requests_sender import RequestsSender

URL = "https://backend.test/dispatch"
HEADERS = {
    "accept": "application/json",
    "content-type": "application/json",
    "webhook-id": "job_1",
    "webhook-timestamp": "1763980000",
    "webhook-signature": "v1,c2VjcmV0",
}
BODY = b'{"type":"dispatch","job":"send-mail"}'
POST = Request("POST", URL, HEADERS, BODY)
MEBIBYTE = 1024 * 1024


def answer(status="200 OK", body=b"{}", *headers):
    """A whole answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def answering(data):
    """A script that reads the request, sends this, and closes."""

    def script(connection, server):
        server.read_request(connection)
        connection.sendall(data)

    return script


def dripping(start, drip):
    """A script that sends a start at once, and then the rest over and over, slowly."""

    def script(connection, server):
        server.read_request(connection)
        connection.sendall(start)
        while not server.stopping.wait(0.05):
            connection.sendall(drip)

    return script


def echoing(connection, server):
    """Answer each request with its own body, until the client leaves."""
    while True:
        body = server.read_request(connection).partition(b"\r\n\r\n")[2]
        connection.sendall(answer("200 OK", body))


def silent(connection, server):
    server.stopping.wait()


def fail(request, timeout=10.0, session=None):
    """The error of a try that must fail."""
    with RequestsSender(session) as sender, pytest.raises(SendFailed) as caught:
        sender.send(request, timeout)
    return caught.value


@pytest.fixture
def backend():
    """Answers for requests, without a network."""
    with responses.RequestsMock() as mock:
        yield mock


def test_answer(backend):
    """Status, header in lower case and body of an answer come back; the request is as given."""
    body = json.dumps({"id": "job_1", "state": "queued"}).encode()
    backend.post(URL, body, status=202, content_type="application/json", headers={"X-One": "1"})

    response = RequestsSender().send(POST, 10.0)

    assert (response.status, response.body) == (202, body)
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-one"] == "1"
    sent = backend.calls[0].request
    assert (sent.method, sent.url, sent.body) == ("POST", URL, BODY)
    assert HEADERS.items() <= dict(sent.headers).items()


@pytest.mark.parametrize("status", [400, 401, 404, 405, 408, 409, 413, 422, 429, 500, 502, 503])
def test_error_is_an_answer(backend, status):
    """An answer that refuses is an answer like any other, and asked for once."""
    backend.post(URL, b'{"code":"x"}', status=status)

    response = RequestsSender().send(POST, 10.0)

    assert (response.status, response.body) == (status, b'{"code":"x"}')
    assert len(backend.calls) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", ["https://elsewhere.test/", "http://[half", "", "/other"])
def test_redirect_is_an_answer(backend, status, location):
    """No redirect is followed, nor looked at, wherever it leads."""
    backend.post(URL, b"moved", status=status, headers={"Location": location})

    response = RequestsSender().send(POST, 10.0)

    assert (response.status, response.body) == (status, b"moved")
    assert response.headers["location"] == location
    assert len(backend.calls) == 1


@pytest.mark.parametrize("value", ["7", "Wed, 21 Oct 2026 07:28:00 GMT", "soon"])
def test_retry_after(backend, value):
    """Retry-After comes back as it is, for the delivery loop to judge."""
    backend.post(URL, b"", status=503, headers={"Retry-After": value, "Content-Length": "0"})

    response = RequestsSender().send(POST, 10.0)

    assert (response.status, response.headers["retry-after"]) == (503, value)


@pytest.mark.parametrize(
    "content_type", ["text/html", "application/json; charset=utf-16", "x", "image/png", None]
)
def test_odd_content_type(backend, content_type):
    """A body comes back as bytes, whatever it says it is."""
    backend.post(URL, b"\xff\xfe<html>", content_type=content_type)

    assert RequestsSender().send(POST, 10.0).body == b"\xff\xfe<html>"


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        (requests.ConnectTimeout("slow"), "timeout", True),
        (requests.ReadTimeout("slow"), "timeout", True),
        (requests.ConnectionError("gone"), "unreachable", True),
        (requests.exceptions.ProxyError("no tunnel"), "unreachable", True),
        (requests.exceptions.ChunkedEncodingError("half"), "unreachable", True),
        (requests.exceptions.SSLError("self-signed"), "tls-failed", False),
        (requests.exceptions.InvalidURL("x"), "rejected", False),
        (requests.exceptions.InvalidHeader("x"), "rejected", False),
        (ConnectionResetError(104, "Connection reset by peer"), "unreachable", True),
        (TimeoutError("slow"), "timeout", True),
    ],
)
def test_error_without_an_answer(backend, error, code, retryable):
    """What requests raises has the code that the other sender would give it."""
    backend.post(URL, body=error)

    found = fail(POST)

    assert (found.code, found.retryable) == (code, retryable)
    assert found.__cause__ is error
    assert len(backend.calls) == 1


def test_cut_off_body(backend):
    """A body shorter than it says is unreachable: its end was lost on the way."""
    backend.post(
        URL, b"half", headers={"Content-Length": "10"}, auto_calculate_content_length=False
    )

    assert fail(POST).code == "unreachable"


def test_largest_answer(backend):
    """An answer of exactly 1 MiB is read."""
    backend.post(URL, b"x" * MEBIBYTE)

    assert len(RequestsSender().send(POST, 10.0).body) == MEBIBYTE


def test_oversized_answer(backend):
    """One of a byte more is refused."""
    backend.post(URL, b"x" * (MEBIBYTE + 1))

    error = fail(POST)

    assert (error.code, error.retryable) == ("bad-answer", False)
    assert "1048576 bytes" in str(error)


def test_session_does_not_alter_what_is_signed(backend):
    """Headers, parameters and authentication of a session leave alone what is signed."""

    def sign(prepared):
        prepared.body = b"other"
        prepared.url += "?auth=1"
        prepared.headers["Authorization"] = "Own scheme"
        return prepared

    session = requests.Session()
    session.headers.update({"webhook-id": "other", "Accept-Encoding": "gzip", "X-Team": "a"})
    session.params = {"page": "2"}
    session.cookies.set("c", "1")
    session.auth = sign
    backend.post(URL, b"{}")

    RequestsSender(session).send(POST, 10.0)

    sent = backend.calls[0].request
    assert (sent.method, sent.url, sent.body) == ("POST", URL, BODY)
    assert sent.headers["Content-Length"] == str(len(BODY))
    assert sent.headers["webhook-id"] == "job_1"
    assert sent.headers["Accept-Encoding"] == "identity"
    assert (sent.headers["X-Team"], sent.headers["Authorization"]) == ("a", "Own scheme")


def test_hooks_see_the_answer(backend):
    """The session's hooks see the answer, and cannot change it."""
    seen = []

    def look(response, **_):
        seen.append((response.status_code, response.text, response.headers["X"]))
        replaced = requests.Response()
        replaced.status_code = 200
        return replaced

    session = requests.Session()
    session.hooks["response"].append(look)
    backend.post(URL, b"later", status=503, headers={"X": "y"})

    response = RequestsSender(session).send(POST, 10.0)

    assert seen == [(503, "later", "y")]
    assert (response.status, response.body) == (503, b"later")


def test_hook_that_raises_for_a_status(backend):
    """A refusal is an answer though a hook of the session makes an error of it."""
    session = requests.Session()
    session.hooks["response"].append(lambda response, **_: response.raise_for_status())
    backend.post(URL, b"no", status=409)

    assert RequestsSender(session).send(POST, 10.0).status == 409


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("GET", "file:///etc/hostname"),
        ("GET", "http://a b/"),
        ("G T", URL),
        ("GET", "http://u:p@a/"),
    ],
)
def test_rejected(method, url):
    """What must not be sent is refused by the same rules as by the other sender."""
    error = fail(Request(method, url, {}))

    assert (error.code, error.retryable) == ("rejected", False)


def test_adapter_of_the_caller(serve):
    """Requests go through an adapter that the session has for them."""
    seen = []

    class Noting(requests.adapters.HTTPAdapter):
        def send(self, request, **options):  # type: ignore[override]
            seen.append((request.url, options["stream"]))
            return super().send(request, **options)

    server = serve(echoing)
    with requests.Session() as session:
        session.mount("http://127.0.0.1", Noting())
        response = RequestsSender(session).send(Request("POST", server.url, HEADERS, BODY), 10.0)

    assert response.body == BODY
    assert seen == [(server.url, True)]


def test_request_on_the_wire(serve):
    """Method, path, header and body arrive as they were signed, and no connection is closed."""
    server = serve(echoing)

    with RequestsSender() as sender:
        bodies = [
            sender.send(Request("POST", server.url, HEADERS, body), 10.0).body
            for body in (BODY, b"two", b"three")
        ]

    assert bodies == [BODY, b"two", b"three"]
    assert server.connections == 1
    lines = server.requests[0].split(b"\r\n")
    assert lines[0] == b"POST /dispatch HTTP/1.1"
    assert b"webhook-signature: v1,c2VjcmV0" in lines
    assert b"User-Agent: dispatcher-http-sender" in lines
    assert b"Accept-Encoding: identity" in lines


def in_turn(*scripts):
    """A script that is another one for each connection, the last one for all the rest."""
    left = list(scripts)
    return lambda *about: (left.pop(0) if len(left) > 1 else left[0])(*about)


@pytest.mark.parametrize("status", ["102 Processing", "103 Early Hints"])
def test_interim_answer(serve, status):
    """What follows an interim answer is not taken for the answer to the next request."""

    def script(connection, server):
        while True:
            body = server.read_request(connection).partition(b"\r\n\r\n")[2]
            interim = f"HTTP/1.1 {status}\r\n\r\n".encode()
            connection.sendall(interim + answer("200 OK", body))

    def once(connection, server):
        body = server.read_request(connection).partition(b"\r\n\r\n")[2]
        connection.sendall(answer("200 OK", body))

    server = serve(in_turn(script, once))

    with RequestsSender() as sender:
        with pytest.raises(SendFailed) as caught:
            sender.send(Request("POST", server.url, {}, b"one"), 10.0)
        second = sender.send(Request("POST", server.url, {}, b"two"), 10.0)

    assert (caught.value.code, caught.value.retryable) == ("bad-answer", False)
    assert f"is the interim {status[:3]}" in str(caught.value)
    assert "use the sender 'urllib'" in str(caught.value)
    assert second.body == b"two"
    assert server.connections == 2


CHALLENGE = answer(
    "401 Unauthorized", b"who?", 'WWW-Authenticate: Digest realm="a", nonce="b", qop="auth"'
)


def challenging(data):
    """A script that asks each request without a digest for one, and answers this to the others."""

    def script(connection, server):
        while True:
            request = server.read_request(connection).lower()
            connection.sendall(data if b"authorization: digest" in request else CHALLENGE)

    return script


@pytest.fixture
def digest():
    """A session that answers a challenge."""
    with requests.Session() as session:
        session.trust_env = False
        session.auth = requests.auth.HTTPDigestAuth("ann", "password")
        yield session


@pytest.mark.parametrize(
    "status", ["202 Accepted", "302 Found", "401 Unauthorized", "409 Conflict", "503 Unavailable"]
)
def test_challenge_is_answered(serve, digest, status):
    """Where authentication sends the request once more, the last answer is the answer."""
    # It looks at the status of both answers, and makes an error of the last one.
    digest.hooks["response"].append(lambda response, **_: response.raise_for_status())
    server = serve(challenging(answer(status, b"in", "Location: /", "Set-Cookie: a=b")))
    sender = RequestsSender(digest)

    answers = [sender.send(Request("POST", server.url, HEADERS, BODY), 10.0) for _ in range(2)]

    assert [(one.status, one.body) for one in answers] == [(int(status[:3]), b"in")] * 2
    bodies = [request.partition(b"\r\n\r\n")[2] for request in server.requests]
    assert bodies == [BODY] * len(bodies)
    assert all(b"webhook-signature: v1,c2VjcmV0" in request for request in server.requests)
    assert server.connections == 1
    assert dict(digest.cookies) == {}


@pytest.mark.parametrize(
    ("start", "code"),
    [
        (b"", "unreachable"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "unreachable"),
        (answer("302 Found", b"x" * (MEBIBYTE + 1), "Location: /"), "bad-answer"),
    ],
    ids=["none", "half", "oversized"],
)
def test_challenge_is_answered_in_vain(serve, digest, start, code):
    """What goes wrong with the last answer is not hidden by the challenge."""

    def script(connection, server):
        server.read_request(connection)
        connection.sendall(CHALLENGE)
        server.read_request(connection)
        connection.sendall(start)

    server = serve(script)

    assert fail(Request("POST", server.url, HEADERS, BODY), session=digest).code == code


def test_authentication_may_free_the_connection(serve):
    """It may do so before it sends once more, as that of Kerberos and NTLM does."""

    def again(response, **options):
        if response.status_code != 401:
            return response
        assert response.content == b"who?"
        response.raw.release_conn()
        repeated = response.connection.send(prove(response.request), **options)
        repeated.history.append(response)
        return repeated

    def prove(prepared):
        prepared.headers["Authorization"] = "Digest of another kind"
        return prepared

    def ask(prepared):
        prepared.register_hook("response", again)
        return prepared

    server = serve(challenging(answer("202 Accepted", b"in")))
    with requests.Session() as session:
        session.trust_env, session.auth = False, ask
        response = RequestsSender(session).send(Request("POST", server.url, {}, BODY), 10.0)

    assert (response.status, response.body) == (202, b"in")
    assert server.connections == 1


def test_threads_keep_their_connections(serve):
    """More connections than the ten that requests keeps by itself wait for their next request."""
    threads = 12
    together = threading.Barrier(threads)

    def script(connection, server):
        while True:
            body = server.read_request(connection).partition(b"\r\n\r\n")[2]
            together.wait(30)
            connection.sendall(answer("200 OK", body))

    server = serve(script)
    request = Request("POST", server.url, {}, b"x")

    with RequestsSender() as sender, ThreadPoolExecutor(threads) as pool:
        for _ in range(3):
            answers = list(pool.map(lambda _: sender.send(request, 30.0), range(threads)))
            assert [one.body for one in answers] == [b"x"] * threads

    assert server.connections == threads


class Stuck(requests.adapters.HTTPAdapter):
    """An adapter that knows no timeout, and waits until it is released."""

    def __init__(self):
        super().__init__()
        self.stuck, self.released, self.ended = [], threading.Event(), []

    def send(self, request, **options):  # type: ignore[override]
        self.stuck.append(request.url)
        try:
            assert self.released.wait(30)
            return super().send(request, **options)
        finally:
            self.ended.append(request.url)


def test_exchanges_left_behind_are_bounded(serve, monkeypatch):
    """Where too many go on past their deadline no other is begun, until one of them ends."""
    monkeypatch.setattr(requests_sender, "MOST_LATE", 4)
    adapter, server = Stuck(), serve(answering(answer("200 OK", b"x")))
    request = Request("POST", server.url, {}, b"x")
    with requests.Session() as session:
        session.mount("http://", adapter)
        sender = RequestsSender(session)
        while len(adapter.stuck) < 4:
            with pytest.raises(SendFailed):
                sender.send(request, 0.05)

        with pytest.raises(SendFailed, match=r"nothing was sent to .*: 4 requests") as caught:
            sender.send(Request("POST", f"{server.url}/refused", {}, b"x"), 30.0)

        assert (caught.value.code, caught.value.retryable) == ("timeout", True)
        adapter.released.set()
        assert answered(sender, request).body == b"x"
        assert f"{server.url}/refused" not in adapter.stuck
        wait_until(lambda: len(adapter.ended) == len(adapter.stuck))


def answered(sender, request):
    """The answer once there is one."""
    answers = []

    def ask():
        with contextlib.suppress(SendFailed):
            answers.append(sender.send(request, 30.0))
        return answers

    wait_until(ask)
    return answers[0]


def wait_until(condition):
    """Return once it holds."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_fork_leaves_the_exchanges_behind(monkeypatch):
    """A fork has none of its parent's threads, and counts none of them."""
    monkeypatch.setattr(requests_sender, "MOST_LATE", 1)
    adapter = Stuck()
    with requests.Session() as session:
        session.mount("http://", adapter)
        sender = RequestsSender(session)
        request = Request("GET", "http://127.0.0.1:9/", {})
        while not adapter.stuck:
            with pytest.raises(SendFailed):
                sender.send(request, 0.05)
        with pytest.raises(SendFailed, match="nothing was sent"):
            sender.send(request, 0.05)
        genuine = os.getpid()
        monkeypatch.setattr(os, "getpid", lambda: genuine + 1)

        with pytest.raises(SendFailed, match="no answer from"):
            sender.send(request, 0.05)
        adapter.released.set()


def test_compressed_answer_is_not_unpacked(serve):
    """An answer that comes compressed, though nobody asked for it, stays so: it may be a bomb."""
    server = serve(answering(answer("200 OK", b"\x1f\x8b\x08", "Content-Encoding: gzip")))

    with RequestsSender() as sender:
        assert sender.send(Request("GET", server.url, {}), 10.0).body == b"\x1f\x8b\x08"


@pytest.mark.parametrize(
    ("start", "drip"),
    [
        (b"", b"H"),
        (b"HTTP/1.1 200 OK\r\n", b"X"),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 1000\r\n\r\n", b"x"),
    ],
    ids=["status", "name", "fields", "body", "close", "chunks", "redirect"],
)
def test_drip_is_bounded(serve, start, drip):
    """A server that sends a little now and then does not stretch the deadline."""
    server = serve(dripping(start, drip))
    began = time.monotonic()

    error = fail(Request("POST", server.url, HEADERS, BODY), 0.5)

    assert (error.code, error.retryable) == ("timeout", True)
    assert 0.5 <= time.monotonic() - began < 20
    assert "within 0.5 s" in str(error)


def test_no_answer(serve):
    """A server that accepts and says nothing is a timeout."""
    assert fail(Request("GET", serve(silent).url, {}), 0.5).code == "timeout"


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 10\r\n\r\nhalf",
    ],
)
def test_cut_off_answer(serve, start):
    """An answer that ends early, wherever, is unreachable: it may have been lost on the way."""
    error = fail(Request("POST", serve(answering(start)).url, HEADERS, BODY))

    assert (error.code, error.retryable) == ("unreachable", True)


def test_reset(serve):
    """A connection that is reset is unreachable, and tried once."""

    def script(connection, server):
        server.read_request(connection)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    server = serve(script)

    assert fail(Request("POST", server.url, HEADERS, BODY)).code == "unreachable"
    assert len(server.requests) == 1


def test_refused_port(free_port):
    """A port that nobody listens on is unreachable; the message says where and why."""
    error = fail(Request("GET", f"http://127.0.0.1:{free_port}/", {}))

    assert str(error) == f"no answer from 127.0.0.1:{free_port}: Connection refused"


@pytest.mark.parametrize("data", [b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 abc OK\r\n\r\n"])
def test_answer_that_is_not_http(serve, data):
    """What is not HTTP is a bad answer, and is not quoted."""
    error = fail(Request("GET", serve(answering(data)).url, {}))

    assert (error.code, error.retryable) == ("bad-answer", False)
    assert "SSH" not in str(error)


def test_untrusted_certificate(serve, server_context):
    """A certificate that no authority signed is refused, and nothing is sent."""
    server = serve(answering(answer()), server_context)

    error = fail(Request("POST", server.url, HEADERS, BODY))

    assert (error.code, error.retryable) == ("tls-failed", False)
    assert "self-signed certificate" in str(error)
    assert server.requests == []


def test_certificates_of_the_session(serve, server_context, certificate, monkeypatch):
    """A session may trust a certificate of its own, whatever the environment says."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", requests.utils.DEFAULT_CA_BUNDLE_PATH)
    server = serve(answering(answer("202 Accepted")), server_context)
    with requests.Session() as session:
        session.verify = str(certificate)
        response = RequestsSender(session).send(Request("POST", server.url, HEADERS, BODY), 10.0)

    assert response.status == 202


@pytest.mark.parametrize("asked", [False, True])
def test_environment_proxy(serve, monkeypatch, asked):
    """A proxy that the environment names is used by a session that looks for it, only."""
    proxy, server = serve(answering(answer("203 By Proxy"))), serve(answering(answer()))
    monkeypatch.setenv("http_proxy", f"http://{proxy.place}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)

    with requests.Session() as session:
        sender = RequestsSender(session if asked else None)
        response = sender.send(Request("POST", server.url, HEADERS, BODY), 10.0)
        sender.close()

    assert response.status == (203 if asked else 200)
    assert (proxy.connections, server.connections) == ((1, 0) if asked else (0, 1))


def test_session_of_the_caller_stays_open(serve):
    """Closing the sender closes its own session, not one that was given."""
    server = serve(echoing)
    with requests.Session() as session:
        for _ in range(2):
            with RequestsSender(session) as sender:
                sender.send(Request("POST", server.url, HEADERS, BODY), 10.0)

    assert server.connections == 1


FORKING = """
import os, sys
from dispatcher_core.protocols import Request
from dispatcher_http_sender.requests_sender import RequestsSender

sender = RequestsSender()

def check(body):
    assert sender.send(Request("POST", sys.argv[1], {}, body), 20.0).body == body

check(b"parent")
if not os.fork():
    check(b"child")
    os._exit(0)
assert os.wait()[1] == 0
check(b"parent again")
sender.close()
"""


def test_fork(serve):
    """A fork makes its own connection; that of its parent goes on."""
    server = serve(echoing)

    done = subprocess.run(
        [sys.executable, "-c", FORKING, server.url], capture_output=True, timeout=60
    )

    assert (done.returncode, done.stderr) == (0, b"")
    assert server.connections == 2


WITHOUT_REQUESTS = """
import sys
sys.modules["requests"] = None
import dispatcher_http_sender
from dispatcher_core.plugins import SENDERS, load_plugin
load_plugin(SENDERS, "urllib")()
try:
    load_plugin(SENDERS, "requests")
except Exception as error:
    print(type(error).__name__, error)
"""


def test_without_requests():
    """Without requests the other sender works, and asking for this one says what to install."""
    command = [sys.executable, "-W", "error", "-c", WITHOUT_REQUESTS]

    told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout

    assert told.startswith(PluginNotFound.__name__)
    assert "pip install 'dispatcher-http-sender[requests]'" in told


def test_requests_is_not_imported():
    """Importing the package, and what it exports, does not import requests."""
    code = "import sys, dispatcher_http_sender; sys.exit('requests' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


def test_plugin():
    """Configuration finds the sender by the name ``requests``, and makes it without arguments."""
    sender = load_plugin(SENDERS, "requests")()

    assert isinstance(sender, RequestsSender)
    sender.close()
