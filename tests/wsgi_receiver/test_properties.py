"""Whatever comes over the network: a documented answer, and nothing unsigned is queued."""

import json
import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dispatcher_core.signing import signed_path
from dispatcher_core.testing import MemoryQueue
from dispatcher_local_queue import SQLiteQueue

# The refusals of the wire format that say something of the request, and not of the receiver.
DOCUMENTED = {
    (400, "malformed"),
    (401, "bad-signature"),
    (401, "timestamp-out-of-range"),
    (404, "not-found"),
    (405, "method-not-allowed"),
    (411, "length-required"),
    (413, "too-large"),
    (415, "unsupported-media-type"),
    (422, "unknown-job"),
    (422, "invalid-payload"),
    (422, "invalid-request"),
    (422, "invalid-batch"),
    (422, "id-reused"),
}
DISPATCH = (
    b'{"type":"dispatch","job":"send-mail","payload":{"to":"ann"},"queue":"mails","delay":0}'
)
BATCH = b'{"type":"dispatch.batch","jobs":[{"id":"j1","job":"send-mail","payload":{"to":"ann"}}]}'
PATHS = ["/dispatch", "/dispatch/batch", "/jobs/job-1", "/batches/job-1", "/ping", "/health"]


def examples(count):
    """The same examples in every run, however slow the machine is."""
    return settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


def lists(values, most):
    """Short lists."""
    return st.lists(values, max_size=most)


# WSGI hands over the bytes of a request as latin-1 text.
TEXT = st.text(st.characters(max_codepoint=255), max_size=40)
METHODS = st.sampled_from(["GET", "POST", "DELETE", "HEAD", "PUT"]) | TEXT.filter(bool)
NUMBERS = st.integers(-(2**70), 2**70) | st.floats()
WORDS = st.text(string.ascii_letters + "-_.: \n\x00\x1bé\ud800", max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | WORDS,
    lambda inner: lists(inner, 3) | st.dictionaries(WORDS | st.just("to"), inner, max_size=3),
    max_leaves=8,
)
HEADERS = st.dictionaries(
    st.sampled_from(
        [
            "HTTP_WEBHOOK_ID",
            "HTTP_WEBHOOK_TIMESTAMP",
            "HTTP_WEBHOOK_SIGNATURE",
            "HTTP_TRANSFER_ENCODING",
            "HTTP_CONTENT_ENCODING",
            "CONTENT_TYPE",
            "CONTENT_LENGTH",
            "QUERY_STRING",
        ]
    ),
    TEXT,
    max_size=3,
)
MUTATIONS = st.tuples(
    st.sampled_from(["body", "ID", "TIMESTAMP", "SIGNATURE"]),
    st.integers(0, 120),
    st.integers(0, 3),
    st.binary(max_size=4),
)


def check(reply, method):
    """The reply is a yes with an object in it, or a documented no; nothing else."""
    assert reply.headers["cache-control"] == "no-store"
    if method == "HEAD":
        assert reply.body == b""
        return
    assert isinstance(reply.json, dict)
    if reply.status >= 400:
        assert reply.refusal in DOCUMENTED


@examples(600)
@given(method=METHODS, path=st.sampled_from(PATHS) | TEXT, headers=HEADERS, body=st.binary())
def test_arbitrary_requests(make_client, method, path, headers, body):
    """Whatever the method, path, headers and body are, the answer is documented."""
    queue = MemoryQueue()
    client = make_client(queue)
    reply = client.call(method, path, body, headers, validate=False)
    check(reply, method)
    assert reply.status >= 400 or path == "/health"
    assert queue.jobs == []
    assert client.post(DISPATCH).status == 202


@examples(450)
@given(path=st.sampled_from(PATHS[:2]), changed=HEADERS, body=st.sampled_from([DISPATCH, BATCH]))
def test_signed_requests_with_arbitrary_headers(make_client, path, changed, body):
    """With other headers than the signed ones nothing is queued; with others, what was signed."""
    queue = MemoryQueue()
    client = make_client(queue)
    signed = client.headers("job-1", body)
    sent = {**signed, **changed}
    check(reply := client.call("POST", path, body, sent, validate=False), "POST")
    if {name: sent[name] for name in signed} != signed:
        assert reply.status >= 400
    assert (reply.status == 202) == (len(queue.jobs) == 1)


def mutated(parts, mutation):
    """A request in which some bytes of one part are replaced by others."""
    name, start, length, new = mutation
    start %= len(parts[name]) + 1
    return {**parts, name: parts[name][:start] + new + parts[name][start + length :]}


@examples(800)
@given(st.lists(MUTATIONS, min_size=1, max_size=3), st.sampled_from([DISPATCH, BATCH]))
def test_mutated_requests(make_client, mutations, body):
    """A signed request that was changed in any byte is refused, and nothing of it is queued."""
    queue = MemoryQueue()
    client = make_client(queue)
    path = "/dispatch" if body is DISPATCH else "/dispatch/batch"
    headers = client.headers("job-1", body)
    names = ("ID", "TIMESTAMP", "SIGNATURE")
    good = {name: headers[f"HTTP_WEBHOOK_{name}"].encode() for name in names} | {"body": body}
    parts = good
    for mutation in mutations:
        parts = mutated(parts, mutation)
    sent = {f"HTTP_WEBHOOK_{name}": parts[name].decode("latin-1") for name in names}
    check(reply := client.call("POST", path, parts["body"], sent, validate=False), "POST")
    tokens = parts["SIGNATURE"].split(b" ")
    same = {**parts, "SIGNATURE": b""} == {**good, "SIGNATURE": b""}
    assert (reply.status == 202) == (same and good["SIGNATURE"] in tokens)
    assert len(queue.jobs) == (reply.status == 202)


@examples(600)
@given(st.sampled_from(PATHS[:2]), st.binary() | JSON.map(json.dumps).map(str.encode))
def test_signed_bytes(make_client, path, body):
    """Who holds the secret may send any bytes: they are refused for what is wrong with them."""
    queue = MemoryQueue()
    client = make_client(queue)
    check(client.call("POST", path, body, client.headers("job-1", body)), "POST")
    assert queue.jobs == []


@pytest.fixture
def durable(tmp_path):
    """A queue on disk."""
    queue = SQLiteQueue(tmp_path / "queue.sqlite3")
    yield queue
    queue.close()


@examples(300)
@given(
    members=st.dictionaries(st.sampled_from(["payload", "queue", "delay", "priority"]), JSON),
    payload=st.dictionaries(st.just("to"), JSON, max_size=1),
    name=st.sampled_from(["send-mail", "os.system", "é"]) | WORDS,
    number=st.integers(0, 5),
)
def test_signed_messages_and_a_database(make_client, durable, members, payload, name, number):
    """What the receiver lets through the database takes, and gives it back."""
    client = make_client(durable)
    message = {"type": "dispatch", "job": name, "payload": payload, **members}
    reply = client.post(json.dumps(message).encode(), f"job-{number}", validate=False)
    check(reply, "POST")
    if reply.status < 400:
        assert client.ask("GET", f"/jobs/job-{number}").json["job"] == name


@examples(300)
@given(st.sampled_from(["GET", "DELETE"]), TEXT, TEXT)
def test_a_signed_path_serves_no_other(make_client, method, path, id):
    """The signature of a request without a body is of use for just its method and path."""
    client = make_client(MemoryQueue())
    client.post(DISPATCH)
    headers = client.headers("req-1", signed_path("GET", "/jobs/job-1"))
    for target in (path, f"/jobs/{id}", f"/batches/{id}"):
        check(reply := client.call(method, target, None, headers, validate=False), method)
        assert reply.status >= 400 or (method, target) == ("GET", "/jobs/job-1")
