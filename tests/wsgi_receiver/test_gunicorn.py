"""The receiver under gunicorn, with processes and threads."""

import json
import sqlite3
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

LISTENING = r"Listening at: http://127\.0\.0\.1:(\d+)"


def body(number: int) -> bytes:
    """A dispatch that only this number has."""
    return b'{"type":"dispatch","job":"send-mail","payload":{"to":"%d"}}' % number


def batch(number: int, jobs: int) -> bytes:
    """A batch of so many jobs that only this number has."""
    items = [
        {"id": f"job-{number}-{place}", "job": "send-mail", "payload": {"to": f"{number}@{place}"}}
        for place in range(jobs)
    ]
    return json.dumps({"type": "dispatch.batch", "jobs": items}).encode()


@pytest.fixture
def server(backend, start):
    """gunicorn with two processes of four threads each."""
    program = start(
        backend,
        "gunicorn",
        *("--worker-class", "gthread", "--workers", "2", "--threads", "4"),
        *("--bind", "127.0.0.1:0", "--no-control-socket"),
        "dispatcher_wsgi_receiver:create_app()",
    )
    program.wait_for_output(r"(?s)Booting worker.*Booting worker")
    return program


@pytest.fixture
def browser(server, browser_of):
    """Requests to that server."""
    return browser_of(int(server.wait_for_output(LISTENING)[1]))


def test_jobs_from_many_threads_are_each_put_once(server, browser, tmp_path):
    """Each of 40 jobs that come three times over is accepted once, whichever process answers."""
    numbers = [number for number in range(40) for _ in range(3)]
    with ThreadPoolExecutor(8) as threads:
        replies = list(
            threads.map(
                lambda number: browser.signed("POST", "/dispatch", body(number), f"job-{number}"),
                numbers,
            )
        )
    assert Counter(reply.status for reply in replies) == {202: 40, 200: 80}
    assert server.stop() == 0
    with sqlite3.connect(tmp_path / "queue.sqlite3") as database:
        ids = [row[0] for row in database.execute("SELECT id FROM job")]
    database.close()
    assert sorted(ids) == sorted(f"job-{number}" for number in range(40))


def test_batches_from_many_threads_are_each_put_once(server, browser, tmp_path):
    """Each of 12 batches that come three times over is taken once, with all its jobs."""
    bodies = {number: batch(number, 100) for number in range(12)}
    with ThreadPoolExecutor(8) as threads:
        replies = list(
            threads.map(
                lambda number: browser.signed(
                    "POST", "/dispatch/batch", bodies[number], f"batch-{number}"
                ),
                [number for number in bodies for _ in range(3)],
            )
        )
    assert Counter(reply.status for reply in replies) == {202: 12, 200: 24}
    for reply in replies:
        number = reply.json["id"].removeprefix("batch-")
        assert reply.json["ids"] == [f"job-{number}-{place}" for place in range(100)]
    status = browser.signed("GET", "/batches/batch-7").json
    assert (status["state"], status["total"], status["pending"]) == ("running", 100, 100)
    assert browser.signed("DELETE", "/batches/batch-7").json["cancelled"] == 100
    assert server.stop() == 0
    with sqlite3.connect(tmp_path / "queue.sqlite3") as database:
        counts = dict(database.execute("SELECT state, count(*) FROM job GROUP BY state"))
    database.close()
    assert counts == {"queued": 1100, "cancelled": 100}


def test_the_largest_batch_is_taken(browser):
    """10,000 jobs, over a MiB of them, go through in one request; 10,001 do not."""
    reply = browser.signed("POST", "/dispatch/batch", batch(1, 10_000), "batch-1")
    assert (reply.status, len(reply.json["ids"])) == (202, 10_000)
    assert browser.signed("GET", "/batches/batch-1").json["total"] == 10_000
    reply = browser.signed("POST", "/dispatch/batch", batch(2, 10_001), "batch-2")
    assert reply.refusal == (413, "too-large")
    assert browser.signed("GET", "/batches/batch-2").status == 404


def test_a_job_is_followed_and_cancelled(browser):
    """Status and cancel reach the job whichever process took it."""
    browser.signed("POST", "/dispatch", body(1), "job-1")
    states = {browser.signed("GET", "/jobs/job-1").json["state"] for _ in range(8)}
    assert states == {"queued"}
    assert browser.signed("DELETE", "/jobs/job-1").json["state"] == "cancelled"
    assert browser.signed("GET", "/ping").json["workers"] == 0
    assert browser.request("GET", "/health").json == {"status": "ok"}


@pytest.mark.parametrize(
    ("fields", "statuses"),
    [
        ("transfer-encoding: chunked", {411}),
        ("transfer-encoding: chunked\r\ncontent-length: 5", {400, 411}),
        ("x: y", {411}),
        ("content-length: -1", {400}),
        ("content-length: 50", {400}),
        ("content-length: 99999999", {413}),
        ("content-length: 5\r\ncontent-encoding: gzip", {415}),
    ],
)
def test_bodies_that_mislead(browser, fields, statuses):
    """Lengths that would make a server wait or misread are refused by one of the two."""
    timestamp = int(time.time())
    data = (
        "POST /dispatch HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nwebhook-id: a\r\n"
        f"connection: close\r\nwebhook-timestamp: {timestamp}\r\nwebhook-signature: v1,x\r\n"
        f"{fields}\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"
    )
    assert int(browser.exchange(data.encode()).split()[1]) in statuses


@pytest.mark.parametrize(
    "target", ["//dispatch", "/%2e%2e/dispatch", "/dispatch/", "/x/../dispatch", "/dispatch%0a"]
)
def test_targets_that_mislead(browser, target):
    """A request target that is written in another way reaches no handler."""
    data = f"POST {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    assert browser.exchange(data.encode()).split()[1] in (b"400", b"404")
