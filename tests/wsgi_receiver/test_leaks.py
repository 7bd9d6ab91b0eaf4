"""What answers and logs never tell, looked for in all of them at once."""

import base64
import json
import logging
import re
import time

import pytest

from dispatcher_core.aliases import AliasRegistry
from dispatcher_core.errors import QueueFull, QueueUnavailable
from dispatcher_core.testing import MemoryQueue
from dispatcher_local_queue import SQLiteQueue

PAYLOAD = "payload-4711"
LINE = "\n2000-01-01 INFO forged\r\x1b[31m\x85\u2028"
STATEMENT = "INSERT INTO job VALUES ('1')"
INSIDE = [
    "Traceback",
    'File "',
    ".py",
    "site-packages",
    "sqlite",
    "INSERT",
    "SELECT",
    "Error(",
    "0x7f",
]
"""What no answer has, besides secrets and places of this machine."""


class BrokenQueue(MemoryQueue):
    """Fails as it is told, with words that belong inside."""

    def __init__(self, error):
        super().__init__()
        self._error = error

    def put(self, *arguments):
        """Fail."""
        raise self._error

    def workers(self):
        """Fail."""
        raise self._error

    put_batch = find_job = find_batch = cancel_job = cancel_batch = put


def message(**members):
    """A dispatch with a payload that is to be told to nobody."""
    return json.dumps(
        {"type": "dispatch", "job": "send-mail", "payload": {"to": PAYLOAD}, **members}
    ).encode()


def batch(*jobs):
    """A batch of these jobs."""
    items = [
        {"id": f"item-{place}", "payload": {"to": PAYLOAD}, **members}
        for place, members in enumerate(jobs)
    ]
    return json.dumps({"type": "dispatch.batch", "jobs": items}).encode()


POSTS = [
    ("/dispatch", message()),
    ("/dispatch", message(queue="mails", delay=60)),
    ("/dispatch", message(job="os.system")),
    ("/dispatch", message(job=f"send{LINE}")),
    ("/dispatch", message(queue=LINE)),
    ("/dispatch", message(payload={PAYLOAD: 1, LINE: 2})),
    ("/dispatch", message(payload=PAYLOAD)),
    ("/dispatch", message(delay=PAYLOAD)),
    ("/dispatch", message(**{PAYLOAD: PAYLOAD})),
    ("/dispatch", message() + PAYLOAD.encode()),
    ("/dispatch", b"[" * 100 + PAYLOAD.encode()),
    ("/dispatch", PAYLOAD.encode() + b"\xff"),
    ("/dispatch", f'{{"{PAYLOAD}":1,"{PAYLOAD}":2}}'.encode()),
    ("/dispatch/batch", batch({"job": "send-mail"}, {"job": "send-mail"})),
    ("/dispatch/batch", batch({"job": "nobody"}, {"job": LINE})),
    ("/dispatch/batch", batch({"job": "nobody"}, {"job": "send-mail", "payload": {PAYLOAD: 1}})),
    ("/dispatch/batch", batch({"job": PAYLOAD + LINE})),
    (f"/{LINE}", message()),
]
CHANGES = [
    {},
    {"HTTP_WEBHOOK_SIGNATURE": ""},
    {"HTTP_WEBHOOK_SIGNATURE": LINE},
    {"HTTP_WEBHOOK_ID": LINE},
    {"HTTP_WEBHOOK_ID": "job-2"},
    {"HTTP_WEBHOOK_TIMESTAMP": LINE},
    {"HTTP_WEBHOOK_TIMESTAMP": "1600000000"},
    {"HTTP_AUTHORIZATION": PAYLOAD, "HTTP_COOKIE": PAYLOAD},
    {"CONTENT_TYPE": LINE},
    {"CONTENT_LENGTH": LINE},
    {"CONTENT_LENGTH": "9" * 30},
    {"HTTP_TRANSFER_ENCODING": LINE},
    {"HTTP_CONTENT_ENCODING": LINE},
    {"QUERY_STRING": PAYLOAD + LINE},
    {"REQUEST_METHOD": "GET" + LINE},
    {"SERVER_SOFTWARE": LINE, "REMOTE_ADDR": LINE},
]
ASKED = ["/ping", "/health", "/jobs/job-1", "/batches/job-1", "/jobs/nobody", "/jobs/a" + LINE]


@pytest.fixture
def storage(tmp_path):
    """A queue on disk."""
    queue = SQLiteQueue(tmp_path / "queue.sqlite3")
    yield queue
    queue.close()


@pytest.fixture
def queues(storage, tmp_path):
    """A queue that works and some that do not, each in its own way."""
    words = f"{STATEMENT} in {tmp_path}/queue.sqlite3"
    return [
        storage,
        BrokenQueue(QueueUnavailable(words)),
        BrokenQueue(QueueFull(words)),
        BrokenQueue(RuntimeError(words)),
        BrokenQueue(OSError(28, words)),
    ]


@pytest.fixture
def exchange(make_client, queues, caplog):
    """All answers to many good and bad requests, and all records of the log about them."""
    caplog.set_level(logging.DEBUG)
    replies, signatures = [], set()
    for queue in queues:
        client = make_client(queue, AliasRegistry({"send-mail": lambda to: None}))
        for path, body in POSTS:
            for change in CHANGES:
                signed = client.headers("job-1", body)
                signatures.add(signed["HTTP_WEBHOOK_SIGNATURE"].removeprefix("v1,"))
                parts = {**signed, **change}
                replies.append(client.call("POST", path, body, parts, validate=False))
        for path in ASKED:
            for method in ("GET", "DELETE", "HEAD", "PUT" + LINE):
                parts = client.headers("req-1", f"{method} {path}".encode())
                replies.append(client.call(method, path, None, parts, validate=False))
    return replies, caplog.records, signatures


def test_what_is_told_to_nobody(exchange, secret, tmp_path):
    """No answer has a secret, a signature, a traceback, SQL or a path of this machine."""
    replies, _, signatures = exchange
    assert {reply.status for reply in replies} >= {200, 202, 400, 401, 404, 422, 429, 500, 503}
    hidden = [*INSIDE, secret, str(tmp_path), *signatures]
    for reply in replies:
        told = reply.body.decode() + json.dumps(reply.headers)
        assert [part for part in hidden if part in told] == []


def test_what_is_not_logged(exchange, secret):
    """No record has a secret, a signature or a payload, also where it has a traceback."""
    _, records, signatures = exchange
    key = base64.b64encode(secret.encode()).decode()
    formatter = logging.Formatter("%(levelname)s %(name)s %(message)s")
    assert len(records) > 500
    for record in records:
        line = formatter.format(record)
        for part in (secret, key, PAYLOAD, *signatures):
            assert part not in line


def test_no_line_is_forged(exchange):
    """Each message is one short line of printable ASCII, whatever the request has in it."""
    _, records, _ = exchange
    assert any("forged" in record.getMessage() for record in records)
    for record in records:
        message = record.getMessage()
        assert message.isascii()
        assert message.isprintable()
        assert len(message) < 500


@pytest.mark.parametrize("server", ["gunicorn", "own"])
def test_a_whole_program_tells_nothing(server, backend, start, browser_of, secret, tmp_path):
    """Nor does what a server writes to its terminal, with everything logged."""
    if server == "own":
        program = start(backend, "dispatcher", "serve", "--port", "0")
    else:
        program = start(
            backend,
            "gunicorn",
            *("--bind", "127.0.0.1:0", "--no-control-socket", "--log-level", "debug"),
            *("--access-logfile", "-", "dispatcher_wsgi_receiver:create_app()"),
        )
    browser = browser_of(int(program.wait_for_output(r"http://127\.0\.0\.1:(\d+)")[1]))
    replies = [browser.signed("POST", path, body, "job-1") for path, body in POSTS[:-1]]
    (tmp_path / "queue.sqlite3").write_bytes(b"no database" * 1000)
    replies += [browser.signed("POST", "/dispatch", message(), f"id-{n}") for n in range(2)]
    replies.append(browser.request("GET", f"/jobs/{int(time.time())}?card={PAYLOAD}"))
    program.stop()
    output = program.output.read_text()
    assert {reply.status for reply in replies} >= {202, 400, 422}
    for reply in replies:
        assert [part for part in (*INSIDE, secret, str(tmp_path)) if part in str(reply)] == []
    assert secret not in output
    assert not re.search(r"v1,[A-Za-z0-9+/]{43}=", output)
    assert PAYLOAD not in output.replace(f"?card={PAYLOAD}", "")
