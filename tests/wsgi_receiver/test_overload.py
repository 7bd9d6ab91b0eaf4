"""A receiver whose queue is locked, whose disk is full, or whom too many ask at once."""

import json
import re
import resource
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

import pytest

from dispatcher_core import Config, Dispatcher
from dispatcher_http_sender import UrllibSender
from dispatcher_local_queue import SQLiteQueue

BATCH = "/dispatch/batch"
CLIENTS = 64
PATIENCE = 60.0  # seconds that a slow machine may take for what is a matter of one
SERVING = r"listening on http://127\.0\.0\.1:(\d+)\n"
LISTENING = r"Listening at: http://127\.0\.0\.1:(\d+)"

HOLD_THE_LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=20)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.readline()
connection.execute("ROLLBACK")
connection.close()
"""


@dataclass(slots=True)
class RecordingSender:
    """Sends over HTTP, and knows the status of every answer, also of those tried again."""

    sender: UrllibSender = field(default_factory=UrllibSender)
    statuses: list[int] = field(default_factory=list)

    def send(self, request, timeout):
        """The answer to the request."""
        response = self.sender.send(request, timeout)
        self.statuses.append(response.status)
        return response


def batch_body(*ids: str, text: str = "") -> bytes:
    """The body that dispatches these jobs together."""
    jobs = [{"id": id, "job": "send-mail", "payload": {"to": f"ann{text}"}} for id in ids]
    return json.dumps({"type": "dispatch.batch", "jobs": jobs}).encode()


def rows(path: Path) -> dict[str, list[str]]:
    """The ids of the jobs that the queue's file has, and of what was accepted together."""
    with closing(sqlite3.connect(path, timeout=20)) as database:
        return {
            table: [id for (id,) in database.execute(f"SELECT id FROM {table} ORDER BY id")]
            for table in ("job", "batch", "accepted_batch")
        }


def verdict(path: Path) -> str:
    """What SQLite finds when it checks the whole file."""
    with closing(sqlite3.connect(path, timeout=20)) as database:
        return str(database.execute("PRAGMA integrity_check").fetchone()[0])


@pytest.fixture
def path(tmp_path) -> Path:
    """The queue's file."""
    return tmp_path / "queue.sqlite3"


@pytest.fixture
def client(make_client, path):
    """A client of a receiver in this process, before a queue on disk."""
    queue = SQLiteQueue(path)
    yield make_client(queue)
    queue.close()


@pytest.fixture
def locked(path, monkeypatch) -> Callable[[], object]:
    """A block in which another process has the queue's file locked, beyond anybody's patience."""
    monkeypatch.setattr("dispatcher_local_queue.patience._PATIENCE", 0.1)

    @contextmanager
    def locked() -> Iterator[None]:
        program = [sys.executable, "-c", HOLD_THE_LOCK, str(path)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen(program, **pipes) as process:
            try:
                assert process.stdout.readline() == "locked\n"
                yield
                process.stdin.write("enough\n")
                process.stdin.flush()
                assert process.wait(20) == 0
            finally:
                process.kill()

    return locked


@pytest.fixture
def gunicorn(backend, start, browser_of):
    """Starts gunicorn with two processes of four threads: the program, and a browser of it."""

    def start_gunicorn(**settings: str):
        program = start(
            backend | settings,
            "gunicorn",
            *("--worker-class", "gthread", "--workers", "2", "--threads", "4"),
            *("--bind", "127.0.0.1:0", "--no-control-socket"),
            "dispatcher_wsgi_receiver:create_app()",
        )
        program.wait_for_output(r"(?s)Booting worker.*Booting worker")
        return program, browser_of(int(program.wait_for_output(LISTENING)[1]))

    return start_gunicorn


# The queue is locked


def post_batch(client, id: str, body: bytes):
    """A signed dispatch of a batch."""
    return client.call("POST", BATCH, body, client.headers(id, body))


def test_a_queue_that_stays_locked_takes_nothing(client, locked, path):
    """All that writes is 503 with a time to come back; nothing of it is in the file."""
    assert client.dispatch("send-mail", "old", payload={"to": "ann"}).status == 202
    assert post_batch(client, "old-batch", batch_body("old-1")).status == 202
    before = rows(path)
    with locked():
        replies = [
            client.dispatch("send-mail", "new", payload={"to": "ann"}),
            post_batch(client, "new-batch", batch_body("new-1", "new-2")),
            client.ask("DELETE", "/jobs/old"),
            client.ask("DELETE", "/batches/old-batch"),
        ]
        for reply in replies:
            assert reply.refusal == (503, "unavailable")
            assert int(reply.headers["retry-after"]) > 0
            assert path.name not in reply.body.decode()
        assert rows(path) == before
    assert rows(path) == before
    assert client.ask("GET", "/jobs/old").json["state"] == "queued"
    assert client.ask("GET", "/batches/old-batch").json["pending"] == 1


def test_a_queue_that_is_locked_can_be_read(client, locked):
    """Status, health, and what is known already need no lock."""
    assert client.dispatch("send-mail", "old", payload={"to": "ann"}).status == 202
    with locked():
        assert client.ask("GET", "/jobs/old").json["state"] == "queued"
        assert client.ask("GET", "/jobs/new").refusal == (404, "not-found")
        assert client.ask("GET", "/ping").status == 200
        assert client.call("GET", "/health").status == 200


def test_the_same_dispatch_succeeds_once_the_lock_is_gone(client, locked, path):
    """It is new then, not known: neither the job nor any part of the batch was kept."""
    client.call("GET", "/health")  # makes the file
    body = batch_body("new-1", "new-2")
    with locked():
        assert client.dispatch("send-mail", "new", payload={"to": "ann"}).status == 503
        assert post_batch(client, "new-batch", body).status == 503
    assert client.dispatch("send-mail", "new", payload={"to": "ann"}).status == 202
    assert post_batch(client, "new-batch", body).status == 202
    assert rows(path) == {
        "job": ["new", "new-1", "new-2"],
        "batch": ["new-batch"],
        "accepted_batch": ["new-batch"],
    }


def test_threads_before_a_locked_queue_each_learn_it(client, locked, path):
    """Those who share a commit that fails are all refused, and are all taken afterwards."""
    client.call("GET", "/health")

    def dispatch(number: int) -> int:
        return client.dispatch("send-mail", f"job-{number}", payload={"to": "ann"}).status

    with ThreadPoolExecutor(8) as threads:
        with locked():
            assert list(threads.map(dispatch, range(8))) == [503] * 8
        assert rows(path)["job"] == []
        assert list(threads.map(dispatch, range(8))) == [202] * 8
    assert len(rows(path)["job"]) == 8


# The disk is full


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux changes others' limits")
def test_a_server_whose_file_may_not_grow(backend, start, browser_of, path):
    """Dispatches and batches are 503 until there is space again; what was 202 is there."""
    server = start(backend, "dispatcher", "serve", "--port", "0")
    browser = browser_of(int(server.wait_for_output(SERVING)[1]))
    body = json.dumps(
        {"type": "dispatch", "job": "send-mail", "payload": {"to": "x" * 5000}}
    ).encode()
    assert browser.signed("POST", "/dispatch", body, "job-0").status == 202
    unlimited = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (400_000, unlimited[1]))
    accepted = ["job-0"]
    refused = "job-1"
    while (reply := browser.signed("POST", "/dispatch", body, refused)).status == 202:
        accepted.append(refused)
        refused = f"job-{len(accepted)}"
    parts = [f"part-{number}" for number in range(100)]
    batch = batch_body(*parts, text="x" * 5000)
    for answer in (reply, browser.signed("POST", BATCH, batch, "batch")):
        assert answer.refusal == (503, "unavailable")
        assert int(answer.headers["retry-after"]) > 0
        assert b"disk" not in answer.body
    assert "the disk is full" in server.output.read_text()
    assert len(accepted) > 5
    assert rows(path) == {"job": sorted(accepted), "batch": [], "accepted_batch": []}
    assert browser.request("GET", "/health").status == 200
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, unlimited)
    assert browser.signed("POST", "/dispatch", body, refused).status == 202
    assert browser.signed("POST", BATCH, batch, "batch").status == 202
    assert browser.signed("POST", "/dispatch", body, accepted[-1]).status == 200
    assert server.stop() == 0
    assert rows(path)["job"] == sorted([*accepted, refused, *parts])
    assert verdict(path) == "ok"


# Many clients at once


def test_many_clients_at_once_are_all_served(gunicorn, secret, path):
    """64 clients on kept connections: no answer but 202, and nobody starves meanwhile."""
    program, browser = gunicorn()
    url = f"http://127.0.0.1:{browser.port}"
    sender = RecordingSender()
    dispatcher = Dispatcher(
        Config(url=url, secret=secret, timeout=30, deadline=PATIENCE), sender=sender
    )
    served: list[list[str]] = [[] for _ in range(CLIENTS)]
    over = Event()

    def dispatch_on(ids: list[str]) -> None:
        while not over.is_set():
            ids.append(dispatcher.dispatch("send-mail", {"to": "ann"}).raise_for_error().id)

    clients = [Thread(target=dispatch_on, args=[ids]) for ids in served]
    for client in clients:
        client.start()
    deadline = time.monotonic() + PATIENCE
    while min(map(len, served)) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    over.set()
    for client in clients:
        client.join()
    sender.sender.close()
    assert min(map(len, served)) >= 5, sorted(map(len, served))
    assert set(sender.statuses) == {202}
    assert program.stop() == 0
    accepted = sorted(id for ids in served for id in ids)
    assert rows(path)["job"] == accepted
    assert not re.search(r"\[(ERROR|CRITICAL)\]|Traceback", program.output.read_text())


def test_many_clients_before_a_full_queue(gunicorn, path):
    """The limit holds for both processes together, but for about an eighth of it."""
    program, browser = gunicorn(DISPATCHER_MAX_QUEUED="100")
    body = b'{"type":"dispatch","job":"send-mail","payload":{"to":"ann"}}'

    def dispatch(number: int):
        return browser.signed("POST", "/dispatch", body, f"job-{number}")

    with ThreadPoolExecutor(CLIENTS) as clients:
        replies = list(clients.map(dispatch, range(300)))
    number = len(replies)
    while replies[-1].status == 202:
        replies.append(dispatch(number := number + 1))
    statuses = Counter(reply.status for reply in replies)
    assert set(statuses) == {202, 429}
    assert 100 <= statuses[202] <= 125
    assert len(rows(path)["job"]) == statuses[202]
    refusals = [reply for reply in replies if reply.status == 429]
    assert all(int(reply.headers["retry-after"]) > 0 for reply in refusals)
    (taken, *_) = (place for place, reply in enumerate(replies) if reply.status == 202)
    assert dispatch(taken).status == 200
    assert program.stop() == 0
