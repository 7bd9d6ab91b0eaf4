"""The receiver under gunicorn, with processes and threads."""

import sqlite3
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

LISTENING = r"Listening at: http://127\.0\.0\.1:(\d+)"


def body(number: int) -> bytes:
    """A dispatch that only this number has."""
    return b'{"type":"dispatch","job":"send-mail","payload":{"to":"%d"}}' % number


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
