"""Clients that send more than is taken, or much at once, over real servers."""

import json
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

MIB = 1024 * 1024
LISTENING = r"(?:Listening at:|listening on) http://127\.0\.0\.1:(\d+)"


@pytest.fixture(params=["gunicorn", "own"])
def program(request, backend, start):
    """Each of the servers, in one process that answers many requests at once."""
    if request.param == "own":
        return start(backend, "dispatcher", "serve", "--port", "0")
    return start(
        backend,
        "gunicorn",
        *("--worker-class", "gthread", "--workers", "1", "--threads", "16"),
        *("--bind", "127.0.0.1:0", "--no-control-socket"),
        "dispatcher_wsgi_receiver:create_app()",
    )


@pytest.fixture
def browser(program, browser_of):
    """Requests to that server, which has answered one by now."""
    found = browser_of(int(program.wait_for_output(LISTENING)[1]))
    assert found.request("GET", "/health").status == 200
    return found


@pytest.fixture
def peak(program, browser):
    """Tells the most MiB of memory that the answering process ever had, by now."""
    forked = re.search(r"Booting worker with pid: (\d+)", program.output.read_text())
    status = Path(f"/proc/{forked[1] if forked else program.process.pid}/status")
    if not status.exists():
        pytest.skip("needs the /proc of Linux")

    def read():
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) / 1024

    return read


def head(path, length):
    """The header of a request that looks good until its signature can be checked."""
    return (
        f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        f"content-length: {length}\r\nwebhook-id: a\r\nwebhook-timestamp: {int(time.time())}\r\n"
        f"webhook-signature: v1,{'A' * 43}=\r\n\r\n"
    ).encode()


def answer(connection):
    """The status and the code of the answer."""
    content = b""
    with suppress(ConnectionResetError):
        while not content.endswith(b"}"):
            content += connection.recv(65536) or b"}"
    top, _, body = content.partition(b"\r\n\r\n")
    return int(top.split()[1]), json.loads(body)["code"]


def flood(port, path, length, hold=None):
    """Send so many bytes, as far as the server lets us, and the last one when told to."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        with suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(head(path, length))
            for start in range(0, length - 1, MIB):
                connection.sendall(b"x" * min(length - 1 - start, MIB))
            if hold is not None:
                hold()
            connection.sendall(b"x")
        return answer(connection)


@dataclass(slots=True)
class Crowd:
    """Many clients that have sent all of a body but its last byte, and wait with that."""

    waiting: int = 0
    go: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def hold(self):
        """Wait until all are there who get that far."""
        with self.lock:
            self.waiting += 1
        assert self.go.wait(60)

    def send(self, port, path, length, clients):
        """The answers to so many clients that send at the same time."""
        with ThreadPoolExecutor(clients) as threads:
            sent = [threads.submit(flood, port, path, length, self.hold) for _ in range(clients)]
            self.settle(clients)
            self.go.set()
            return {each.result() for each in sent}

    def settle(self, clients):
        """Wait until all have sent, or no more of them do: the server takes no more."""
        before, since = 0, time.monotonic()
        while self.waiting < clients and time.monotonic() < since + 0.5:
            if self.waiting > before:
                before, since = self.waiting, time.monotonic()
            time.sleep(0.02)


def test_who_sends_too_much_still_sees_the_answer(browser, peak):
    """Of 50 MiB nothing is kept, and a sender that goes on sending them gets its 413."""
    before = peak()
    for path, length in (("/dispatch", MIB + 1), ("/dispatch", 50 * MIB)):
        assert flood(browser.port, path, length) == (413, "too-large")
    assert flood(browser.port, "/dispatch/batch", 50 * MIB) == (413, "too-large")
    assert peak() - before < 20


def test_unsigned_big_bodies_do_not_fill_the_memory(browser, peak):
    """Of 16 unsigned bodies of 16 MiB that come at once, two are in memory."""
    before = peak()
    answers = Crowd().send(browser.port, "/dispatch/batch", 16 * MIB, 16)
    assert answers <= {(401, "bad-signature"), (503, "unavailable")}
    assert peak() - before < 160
    assert browser.request("GET", "/health").status == 200


def test_unsigned_bodies_of_any_size_do_not_fill_the_memory(browser, peak):
    """Of bodies that are just not big, no more are in memory than requests are answered."""
    before = peak()
    answers = Crowd().send(browser.port, "/dispatch", MIB, 320)
    assert answers <= {(401, "bad-signature"), (408, "timeout")}
    assert peak() - before < 260
