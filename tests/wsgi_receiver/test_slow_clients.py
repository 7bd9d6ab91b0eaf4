"""Clients that announce a body and do not send it, or hardly, over real servers."""

import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from contextlib import ExitStack, suppress
from http.client import HTTPSConnection

import pytest

LISTENING = r"(?:Listening at|listening on):? http://127\.0\.0\.1:(\d+)"
ATTACKERS = 16
BODY_TIMEOUT = 0.5

# A receiver that is quicker to give up than it is by default, so that nobody waits for 10 s.
APPLICATION = f"""\
import os

from dispatcher_core.aliases import AliasRegistry
from dispatcher_core.signing import Signer
from dispatcher_wsgi_receiver import Receiver
from dispatcher_wsgi_receiver.application import open_queue
from dispatcher_wsgi_receiver.server import Server

app = Receiver(
    Signer(os.environ["DISPATCHER_BACKEND_SECRET"]),
    open_queue("sqlite:///queue.sqlite3"),
    AliasRegistry({{"send-mail": lambda to: None}}),
    body_timeout={BODY_TIMEOUT},
)

if __name__ == "__main__":
    server = Server("127.0.0.1", 0, app, header_timeout={BODY_TIMEOUT})
    print("listening on", server.url, flush=True)
    server.serve_forever()
"""


@pytest.fixture
def serve(backend, start, tmp_path):
    """Starts a server of that kind; its port."""
    (tmp_path / "quick.py").write_text(APPLICATION)

    def serve_with(kind, *options):
        if kind == "own":
            program = start(backend, "python", "quick.py")
        else:
            program = start(
                backend,
                "gunicorn",
                *("--worker-class", "gthread", "--workers", "2", "--threads", "4"),
                *("--bind", "127.0.0.1:0", "--no-control-socket", *options),
                "quick:app",
            )
            program.wait_for_output(r"(?s)Booting worker.*Booting worker")
        return int(program.wait_for_output(LISTENING.replace("http", "https?"))[1])

    return serve_with


@pytest.fixture(params=["gunicorn", "own"])
def browser(request, serve, browser_of):
    """Requests to each of the servers that give their sockets away."""
    return browser_of(serve(request.param))


@pytest.fixture
def own(serve, browser_of):
    """Requests to our own server."""
    return browser_of(serve("own"))


def head(length=500):
    """The header of a dispatch that looks good until its signature can be checked."""
    return (
        "POST /dispatch HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        f"content-length: {length}\r\nwebhook-id: a\r\nwebhook-timestamp: {int(time.time())}\r\n"
        f"webhook-signature: v1,{'A' * 43}=\r\n\r\n"
    ).encode()


@pytest.fixture
def attack():
    """Opens as many connections as there are attackers, each of which sends this."""
    with ExitStack() as stack:

        def open_all(port, data):
            connections = []
            for _ in range(ATTACKERS):
                connection = socket.create_connection(("127.0.0.1", port), timeout=20)
                connections.append(stack.enter_context(connection))
                connection.sendall(data)
            return connections

        yield open_all


@pytest.fixture
def drip():
    """Sends a byte over each connection now and then, until the test ends."""
    stop = threading.Event()
    threads = []

    def send(connections):
        while not stop.wait(0.03):
            for connection in connections:
                with suppress(OSError):
                    connection.sendall(b"x")

    def start(connections):
        threads.append(threading.Thread(target=send, args=(connections,)))
        threads[0].start()

    yield start
    stop.set()
    for thread in threads:
        thread.join()


def answer(connection):
    """The status and the code of the answer, after which the server closes."""
    content = b""
    with suppress(ConnectionResetError):  # a client that still sends may see its answer cut off
        while data := connection.recv(65536):
            content += data
    top, _, body = content.partition(b"\r\n\r\n")
    return int(top.split()[1]), json.loads(body)["code"]


def test_stalled_bodies_do_not_stop_the_server(browser, attack):
    """16 clients that announce 500 bytes and send one get 408; 8 threads serve others again."""
    connections = attack(browser.port, head() + b"{")
    assert browser.request("GET", "/health").status == 200
    assert [answer(each) for each in connections] == [(408, "timeout")] * ATTACKERS
    body = b'{"type":"dispatch","job":"send-mail","payload":{"to":"ann"}}'
    assert browser.signed("POST", "/dispatch", body, "job-1").status == 202


def test_dripping_bodies_do_not_stop_the_server(browser, attack, drip):
    """A byte now and then does not stretch the deadline."""
    connections = attack(browser.port, head(50_000))
    drip(connections)
    assert browser.request("GET", "/health").status == 200
    assert [answer(each) for each in connections] == [(408, "timeout")] * ATTACKERS


def test_refused_bodies_that_stall_do_not_stop_the_server(browser, attack):
    """What is refused before its body is read frees its thread, though the body never comes."""
    connections = attack(browser.port, b"POST /dispatch HTTP/1.1\r\ncontent-length: 500\r\n\r\n{")
    assert browser.request("GET", "/health").status == 200
    assert [answer(each) for each in connections] == [(401, "bad-signature")] * ATTACKERS


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", []),
        (b"GET /hea", []),
        (b"GET /health HTTP/1.1\r\n", [b"408"]),
        (b"GET /health HTTP/1.1\r\nhost: x\r\nx-fo", [b"408"]),
    ],
)
def test_stalled_headers_end(own, attack, data, status):
    """Our own server gives up on a header that does not come, and runs nothing of it."""
    connections = attack(own.port, data)
    assert own.request("GET", "/health").status == 200
    for connection in connections:
        with connection.makefile("rb") as stream:
            assert stream.read().split()[1:2] == status


def test_dripping_headers_end(own, attack, drip):
    """Nor does a header that drips stay longer."""
    connections = attack(own.port, b"GET /health HTTP/1.1\r\nx: ")
    drip(connections)
    for connection in connections:
        with suppress(ConnectionResetError):
            while data := connection.recv(65536):
                assert b" 200 " not in data


def test_under_tls_a_stalled_body_frees_its_thread(serve, tmp_path):
    """Where gunicorn speaks TLS itself, a late client is cut off, and nothing goes in the clear.

    OpenSSL sends nothing more once its connection has ended early, so there is no 408.
    """
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command")
    certificate, key = certify(tmp_path)
    port = serve("gunicorn", "--certfile", certificate, "--keyfile", key)
    context = ssl.create_default_context(cafile=certificate)
    with ExitStack() as stack:
        connections = []
        for _ in range(ATTACKERS):
            plain = socket.create_connection(("127.0.0.1", port), timeout=30)
            connections.append(context.wrap_socket(plain, server_hostname="localhost"))
            stack.enter_context(connections[-1]).sendall(head() + b"{")
        other = HTTPSConnection("localhost", port, timeout=30, context=context)
        other.request("GET", "/health")
        assert other.getresponse().status == 200
        other.close()
        for connection in connections:
            assert b"timeout" not in on_the_wire(connection)


def on_the_wire(connection):
    """All that still comes over a connection, as it is, without TLS."""
    content = b""
    with suppress(ConnectionResetError):
        while data := socket.socket.recv(connection, 65536):
            content += data
    return content


def certify(folder):
    """The files of a new certificate for localhost and of its key."""
    certificate, key = str(folder / "certificate.pem"), str(folder / "key.pem")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", key]
    command += ["-out", certificate, "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key
