"""Attacks on a receiver: each is refused, and nothing of it reaches the queue."""

import base64
import hmac
import io
import json
import logging
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from hmac import compare_digest

import pytest

from dispatcher_core.aliases import AliasRegistry
from dispatcher_core.signing import TOLERANCE, Signer
from dispatcher_core.wire import parse_time
from dispatcher_local_queue import SQLiteQueue
from dispatcher_local_queue.maintenance import LEAST_RETENTION

BODY = b'{"type":"dispatch","job":"send-mail","payload":{"to":"ann"},"queue":"mails","delay":60}'
FORGED = (401, "bad-signature")
MALFORMED = (400, "malformed")
INVALID = (422, "invalid-request")
SECRETS = ["A1b2" * 16, "B2c3" * 16, "C3d4" * 16]


class Unread:
    """A body that must not be read."""

    read = readline = readlines = __iter__ = None


def body_with(text: str | bytes) -> bytes:
    """A dispatch whose payload has this JSON text as its one member."""
    inner = text.encode() if isinstance(text, str) else text
    return b'{"type":"dispatch","job":"send-mail","payload":{"to":' + inner + b"}}"


@pytest.fixture
def attack(client, queue):
    """Sends a dispatch that may be changed after it was signed; what it was refused with."""

    def send(body=BODY, *, signed=BODY, validate=True, stream=None, **environ):
        parts = {**client.headers("job-1", signed), **environ}
        reply = client.call("POST", "/dispatch", body, parts, validate=validate, stream=stream)
        assert queue.jobs == []
        return reply.refusal

    return send


def test_the_request_under_attack_is_good(client, queue):
    """Unchanged, the request that the other tests change is accepted."""
    assert client.post(BODY).status == 202
    assert len(queue.jobs) == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"ann", b"eve"),
        (b"mails", b"admin"),
        (b"60", b"6"),
        (b"send-mail", b"send-male"),
        (b'"dispatch"', b'"dispatch.batch"'),
        (b"{", b"{ "),
        (b"60}", b"60}\n"),
        (b"ann", b"\\u0061nn"),
    ],
)
def test_altered_bytes(attack, old, new):
    """A body that differs in any byte, even where the JSON says the same, is 401."""
    body = BODY.replace(old, new, 1)
    assert body != BODY
    assert attack(body) == FORGED


def test_the_last_byte_of_a_large_body(client, queue):
    """Every byte of a body of a mebibyte is covered, the last too."""
    text = b'"' + b"x" * (1024 * 1024 - 70) + b'"'
    body = body_with(text)
    assert client.post(body).status == 202
    altered = body[:-4] + b"y" + body[-3:]
    reply = client.call("POST", "/dispatch", altered, client.headers("job-2", body))
    assert reply.refusal == FORGED
    assert len(queue.jobs) == 1


@pytest.mark.parametrize(
    "secret", ["A1b2" * 15 + "A1b3", "A1b2" * 15, "A1b2" * 17, "B1b2" + "A1b2" * 15]
)
def test_a_secret_that_differs_anywhere(attack, now, secret):
    """A secret that is longer, shorter or other in one character does not verify."""
    signature = Signer(secret).sign("job-1", now, BODY)
    assert attack(HTTP_WEBHOOK_SIGNATURE=signature) == FORGED


@pytest.mark.parametrize("seconds", [-301, 301, -86400, 10**9])
def test_a_timestamp_out_of_range(client, queue, now, seconds):
    """What was signed over 300 s ago, or ahead, is 401 and told the time here."""
    headers = client.headers("job-1", BODY, now + seconds)
    reply = client.call("POST", "/dispatch", BODY, headers)
    assert reply.refusal == (401, "timestamp-out-of-range")
    assert parse_time(reply.json["time"]).timestamp() == now
    assert queue.jobs == []


@pytest.mark.parametrize("seconds", [-300, -299, 299, 300])
def test_a_timestamp_in_range(client, now, seconds):
    """Clocks may differ by up to 300 s."""
    headers = client.headers("job-1", BODY, now + seconds)
    assert client.call("POST", "/dispatch", BODY, headers).status == 202


def test_a_timestamp_set_anew(attack, now):
    """An old request does not become fresh by another timestamp."""
    assert attack(HTTP_WEBHOOK_TIMESTAMP=str(now + 1)) == FORGED


@pytest.mark.parametrize(
    "text",
    ["+{}", " {}", "{} ", "{}.9", "1_674_087_231", "1674087231.0", "1e9", "0{}", "{}abc", "-{}"],
)
def test_timestamp_aliases(attack, now, text):
    """A timestamp is ten digits: other ways to write the same number are 400."""
    assert attack(HTTP_WEBHOOK_TIMESTAMP=text.format(now)) == MALFORMED


@pytest.mark.parametrize("digits", ["\xb9674087231", "\xef\xbc\x91674087231"])
def test_a_timestamp_in_other_digits(attack, digits):
    """Digits of other scripts, as they come in a header, are 400."""
    assert attack(HTTP_WEBHOOK_TIMESTAMP=digits) == MALFORMED


def test_a_replay_in_the_window(client, queue):
    """The same request twice is one job."""
    assert [client.post(BODY).status for _ in range(3)] == [202, 200, 200]
    assert len(queue.jobs) == 1


def test_the_same_request_from_many_threads(client, queue):
    """Twenty threads that send the same job at once put it once."""
    with ThreadPoolExecutor(20) as threads:
        replies = list(threads.map(lambda _: client.post(BODY), range(20)))
    assert sorted(reply.status for reply in replies) == [200] * 19 + [202]
    assert len(queue.jobs) == 1


def test_the_body_of_a_batch_at_dispatch(attack):
    """A message that was signed for another endpoint is not taken at this one."""
    body = b'{"type":"dispatch.batch","jobs":[{"id":"a","job":"send-mail"}]}'
    assert attack(body, signed=body) == INVALID


@pytest.mark.parametrize("path", ["/dispatch/batch", "/jobs/job-1", "/ping", "/batches/job-1"])
def test_a_dispatch_at_another_path(client, queue, path):
    """A signed dispatch is of no use at any other path."""
    reply = client.call("POST", path, BODY, client.headers("job-1", BODY))
    assert reply.status in (405, 422)
    assert queue.jobs == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/jobs/job-1"),
        ("GET", "/jobs/job-2"),
        ("GET", "/ping"),
        ("DELETE", "/jobs/ping"),
    ],
)
def test_a_signature_for_another_method_or_path(client, queue, method, path):
    """The signature of a GET serves that method and path only."""
    client.post(BODY)
    headers = client.headers("req-1", b"GET /jobs/job-1")
    assert client.call("GET", "/jobs/job-1", None, headers).status == 200
    assert client.call(method, path, None, headers).refusal == FORGED
    assert queue.find_job("job-1").state == "scheduled"


def test_a_signed_path_as_a_body(attack):
    """What a GET signs can be posted under its signature, but it is no JSON."""
    assert attack(b"GET /jobs/job-1", signed=b"GET /jobs/job-1") == MALFORMED


def test_a_body_on_a_get(client):
    """A GET signs no body, so it may not have one, whatever the signature covers."""
    for signed in (b"GET /ping", b"{}"):
        reply = client.call("GET", "/ping", b"{}", client.headers("req-1", signed))
        assert reply.refusal == MALFORMED


def test_a_dot_shifted_into_the_id(attack, now):
    """An id with a dot could borrow the timestamp's place in what is signed: it is 400."""
    shifted = f"{now}.".encode() + BODY
    assert attack(BODY, signed=shifted, HTTP_WEBHOOK_ID=f"job-1.{now}") == MALFORMED


@pytest.mark.parametrize(
    "id", ["a.b", "a b", "-a", "a" * 65, "a,b", "../a", "\xe9", "a\n", "a;--", "%61"]
)
def test_ids_that_are_none(attack, id):
    """An id outside the alphabet of ids is 400."""
    assert attack(HTTP_WEBHOOK_ID=id) == MALFORMED


@pytest.mark.parametrize(
    "change",
    [
        lambda good: "v1",
        lambda good: "v1,",
        lambda good: "v1,a",
        lambda good: "v1,a,b",
        lambda good: "v1,====",
        lambda good: "none",
        lambda good: good.removeprefix("v1,"),
        lambda good: good.replace("v1,", "v0,"),
        lambda good: good.replace("v1,", "v1a,"),
        lambda good: good.replace("v1,", "V1,"),
        lambda good: good.rstrip("="),
        lambda good: good + "=",
        lambda good: good + "\n",
        lambda good: good.replace("v1,", "v1, "),
        lambda good: good + "," + good,
        lambda good: "v1," + base64.b64decode(good[3:]).hex(),
        lambda good: "v1," + base64.b64encode(bytes(32)).decode(),
        lambda good: "v1,\xe9\xff" + good[5:],
        lambda good: "\xff",
    ],
)
def test_malformed_signatures(client, attack, change):
    """A signature that is not exactly one of ours is 401, however odd it is."""
    good = client.headers("job-1", BODY)["HTTP_WEBHOOK_SIGNATURE"]
    assert attack(HTTP_WEBHOOK_SIGNATURE=change(good), validate=False) == FORGED


@pytest.mark.parametrize("missing", ["ID", "TIMESTAMP", "SIGNATURE"])
def test_stripped_headers(client, queue, missing):
    """Without one of its headers, or with an empty one, a request is not signed."""
    headers = client.headers("job-1", BODY)
    empty = {**headers, f"HTTP_WEBHOOK_{missing}": ""}
    del headers[f"HTTP_WEBHOOK_{missing}"]
    for stripped in (headers, empty):
        assert client.call("POST", "/dispatch", BODY, stripped).refusal == FORGED
    assert queue.jobs == []


def test_other_versions_of_signatures_are_skipped(client):
    """A signature of ours is found among others; those of unknown versions do not matter."""
    good = client.headers("job-1", BODY)["HTTP_WEBHOOK_SIGNATURE"]
    mixed = f"v1a,xyz {'v1,' + 'A' * 43 + '='} {good} v2,abc"
    assert client.post(BODY, environ={"HTTP_WEBHOOK_SIGNATURE": mixed}).status == 202


def test_too_many_signatures(client, attack):
    """Over eight signatures are 401 even where a good one is among them."""
    good = client.headers("job-1", BODY)["HTTP_WEBHOOK_SIGNATURE"]
    assert attack(HTTP_WEBHOOK_SIGNATURE=" ".join(["v1,x"] * 8 + [good])) == FORGED


def test_base64_has_one_way_to_write_a_signature(client, queue):
    """Stray bits at the end of the base64 make the same bytes, and so no second job."""
    good = client.headers("job-1", BODY)["HTTP_WEBHOOK_SIGNATURE"]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    stray = good[:-2] + alphabet[alphabet.index(good[-2]) + 1] + "="
    client.post(BODY)
    reply = client.post(BODY, environ={"HTTP_WEBHOOK_SIGNATURE": stray})
    assert reply.status in (200, 401)
    assert len(queue.jobs) == 1


@pytest.mark.parametrize("name", ["ID", "TIMESTAMP", "SIGNATURE"])
def test_doubled_headers(client, attack, name):
    """Servers join a header that comes twice, or under an alias, with a comma: refused."""
    value = client.headers("job-1", BODY)[f"HTTP_WEBHOOK_{name}"]
    refusal = attack(**{f"HTTP_WEBHOOK_{name}": f"{value},{value}"})
    assert refusal == (FORGED if name == "SIGNATURE" else MALFORMED)


@pytest.mark.parametrize("length", ["-1", "+5", "5 ", "1_0", "", "0x5", "9" * 5000])
def test_lengths_that_mislead_a_read(attack, length):
    """A length such as -1, which would read without end, is refused unread."""
    refusal = attack(CONTENT_LENGTH=length, validate=False, stream=Unread())
    assert refusal in (MALFORMED, (411, "length-required"), (413, "too-large"))


@pytest.mark.parametrize("encoding", ["chunked", "identity", "gzip, chunked", "\x0bchunked"])
def test_any_transfer_encoding(attack, encoding):
    """A Transfer-Encoding is 411, whatever the length says, so that no two readers differ."""
    refusal = attack(HTTP_TRANSFER_ENCODING=encoding, stream=Unread())
    assert refusal == (411, "length-required")


def test_a_body_that_ends_short(attack):
    """A body shorter than its length is 400, though the signature covers what there is."""
    assert attack(CONTENT_LENGTH=str(len(BODY) + 1)) == MALFORMED


def test_a_body_longer_than_its_length(attack):
    """Of a body only the stated length counts, which the signature then does not cover."""
    assert attack(CONTENT_LENGTH=str(len(BODY) - 1)) == FORGED


def test_an_oversized_body_is_not_read(attack):
    """A body over a mebibyte is 413, unread."""
    refusal = attack(CONTENT_LENGTH=str(1024 * 1024 + 1), stream=Unread())
    assert refusal == (413, "too-large")


@pytest.mark.parametrize("encoding", ["gzip", "identity", "zstd"])
def test_compressed_bodies(attack, encoding):
    """Nothing is unpacked: any Content-Encoding is 415."""
    refusal = attack(HTTP_CONTENT_ENCODING=encoding, stream=Unread())
    assert refusal == (415, "unsupported-media-type")


@pytest.mark.parametrize(
    "path",
    [
        "//dispatch",
        "/dispatch/",
        "/dispatch/.",
        "/./dispatch",
        "/jobs/../dispatch",
        "/%2e/dispatch",
        "/dispatch%00",
        "/dispatch\x00",
        "/dispatch\r\nx: y",
        "/DISPATCH",
        "http://evil.example/dispatch",
        "/dispatch?",
        "/dispatch#x",
        "\\dispatch",
    ],
)
def test_path_tricks(client, queue, path):
    """Other ways to write a path are unknown, never another handler."""
    headers = client.headers("job-1", BODY)
    reply = client.call("POST", path, BODY, headers, validate=False)
    assert reply.refusal == (404, "not-found")
    assert queue.jobs == []


@pytest.mark.parametrize("path", ["/dispatch", "/nothing"])
def test_a_query(client, queue, path):
    """A query is not signed, so it is refused."""
    parts = {**client.headers("job-1", BODY), "QUERY_STRING": "queue=admin"}
    assert client.call("POST", path, BODY, parts).status == (400 if path == "/dispatch" else 404)
    assert queue.jobs == []


DEEP = 100_000


@pytest.mark.parametrize(
    "text",
    [
        "[" * 63 + "]" * 63,
        "[" * 990 + "]" * 990,
        "[" * DEEP + "]" * DEEP,
        "[" * DEEP,
        '{"a":' * 5000 + "1" + "}" * 5000,
    ],
    ids=["just-over", "parses", "recursion", "open", "objects"],
)
def test_deep_json(attack, text):
    """JSON nested over 64 levels is 400, and no recursion overflows."""
    body = body_with(text)
    assert attack(body, signed=body) == MALFORMED


def test_json_of_64_levels(client):
    """JSON of just 64 levels is taken: two are the message and its payload."""
    assert client.post(body_with("[" * 62 + "]" * 62)).status == 202


@pytest.mark.parametrize(
    "body",
    [
        b'{"type":"dispatch","job":"send-mail","job":"send-mail","payload":{"to":1}}',
        b'{"type":"dispatch","job":"send-mail","payload":{"to":1,"to":2}}',
        b'{"type":"dispatch","job":"send-mail","payload":{"to":1,"\\u0074o":2}}',
    ],
)
def test_duplicate_keys(attack, body):
    """An object with the same key twice, however escaped, is 400."""
    assert attack(body, signed=body) == MALFORMED


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "[1,1e400]"])
def test_numbers_that_are_none(attack, text):
    """NaN and infinity, also where a number overflows to it, are 400."""
    body = body_with(text)
    assert attack(body, signed=body) == MALFORMED


@pytest.mark.parametrize("text", [str(2**63), str(-(2**63)), "9" * 5000, "-" + "9" * 20])
def test_big_integers(attack, text):
    """Integers beyond 64 bits, or too long to convert, are 400."""
    body = body_with(text)
    assert attack(body, signed=body) == MALFORMED


def test_the_largest_integers(client):
    """Integers within ±(2^63-1) are taken."""
    assert client.post(body_with(f"[{2**63 - 1},{-(2**63) + 1}]")).status == 202


@pytest.mark.parametrize(
    "text",
    [
        '"\\ud800"',
        '"\\udc00\\ud800"',
        '{"\\udfff":1}',
        b'"\xed\xa0\x80"',
        b'"\xff"',
        b'"\xc0\xaf"',
    ],
)
def test_surrogates_and_bytes_that_are_no_utf_8(attack, text):
    """A lone surrogate, escaped or encoded, and any other bad UTF-8 is 400."""
    body = body_with(text)
    assert attack(body, signed=body) == MALFORMED


@pytest.mark.parametrize(
    "text", ['""', "{}", "1.0", '"é"', '"\\u0000"', '"\\ud83d\\ude00"', "-0.0"]
)
def test_values_that_must_survive(client, queue, text):
    """Odd but good values arrive as they are."""
    assert client.post(body_with(text)).status == 202
    assert queue.jobs[0].payload == {"to": json.loads(text)}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_other_encodings_of_json(attack, encoding):
    """JSON with a byte order mark, or in UTF-16 or UTF-32, is 400."""
    body = BODY.decode().encode(encoding)
    assert attack(body, signed=body) == MALFORMED


@pytest.mark.parametrize(
    "body", [b"", b"{", b"not json", b"{}{}", b"{'a':1}", b'{"a":1,}', b"\x00"]
)
def test_what_is_no_json(attack, body):
    """Signed bytes that are no JSON are 400."""
    assert attack(body, signed=body) == MALFORMED


@pytest.mark.parametrize(
    "member",
    ['"delay":1e999', '"delay":-1', '"delay":31622401', '"delay":"1"', '"priority":1.5'],
)
def test_numbers_out_of_their_range(client, queue, member):
    """A delay or priority out of range is refused."""
    body = b'{"type":"dispatch","job":"send-mail","payload":{"to":1},%b}' % member.encode()
    assert client.post(body).refusal in (MALFORMED, INVALID)
    assert queue.jobs == []


@pytest.mark.parametrize(
    "name", ["os.system", "os:system", "subprocess.run", "builtins.eval", "dispatcher_core.job"]
)
def test_names_of_code(client, queue, tmp_path, name):
    """A name of something importable runs nothing: only what is registered has a name."""
    made = tmp_path / "made"
    reply = client.dispatch(name, payload={"command": f"touch {made}"})
    assert reply.refusal[0] == 422
    assert reply.refusal[1] in ("unknown-job", "invalid-request")
    assert queue.jobs == []
    assert not made.exists()


@pytest.mark.parametrize("job", ["__import__('os')", "a\nb", "../x", "a;b", "é", " ", "x" * 129])
def test_names_that_are_none(client, queue, job):
    """A name outside the alphabet of names is 422 before anything is looked up."""
    assert client.dispatch(job).refusal == INVALID
    assert client.dispatch("send-mail", queue=job, payload={"to": 1}).refusal == INVALID
    assert queue.jobs == []


LINE = "\n2000-01-01 INFO accepted\r\x1b[31m\x85\u2028"


@pytest.mark.parametrize(
    "environ",
    [
        {"PATH_INFO": "/" + LINE},
        {"REQUEST_METHOD": "GET" + LINE},
        {"HTTP_WEBHOOK_ID": LINE},
        {"HTTP_WEBHOOK_SIGNATURE": LINE},
        {"CONTENT_TYPE": LINE},
        {"CONTENT_LENGTH": LINE},
        {"QUERY_STRING": LINE},
    ],
)
def test_forged_log_lines(client, caplog, environ):
    """What a request contains never begins a line of the log, nor colours it."""
    caplog.set_level(logging.DEBUG)
    client.call("POST", "/dispatch", BODY, environ, validate=False)
    (record,) = caplog.records
    assert record.getMessage().isprintable()
    assert record.getMessage().isascii()


def test_a_forged_line_in_a_job(client, caplog):
    """A name or payload with a line break does not reach the log."""
    caplog.set_level(logging.DEBUG)
    client.dispatch("send-mail" + LINE)
    client.dispatch("send-mail", payload={LINE: 1})
    client.dispatch("send-mail", **{LINE: 1})
    assert len(caplog.records) == 3
    assert all(record.getMessage().isprintable() for record in caplog.records)


def test_a_broken_handler_leaks_nothing(make_client, queue, caplog):
    """An exception with a secret in its text ends in the log; the answer has none of it."""

    class Registry(AliasRegistry):
        def resolve(self, name):
            raise RuntimeError("SELECT secret FROM /etc/passwd")

    reply = make_client(queue, Registry()).post(BODY)
    assert reply.refusal == (500, "internal")
    for part in ("SELECT", "/etc", "Traceback", "RuntimeError", ".py"):
        assert part not in reply.body.decode()
    assert "RuntimeError" in caplog.text


def test_a_signed_request_reads_no_more_than_its_body(client):
    """Bytes of a next request in the same stream are left alone."""
    stream = io.BytesIO(BODY + b"POST /dispatch HTTP/1.1")
    reply = client.call(
        "POST", "/dispatch", BODY, client.headers("job-1", BODY), stream=stream, validate=False
    )
    assert reply.status == 202
    assert stream.read() == b"POST /dispatch HTTP/1.1"


def test_every_signature_is_compared_in_full(make_client, queue, now, monkeypatch):
    """Neither a match nor a mismatch is told by the time it takes: nothing is left out."""
    compared = []

    def compare(left, right):
        compared.append((type(left), type(right)))
        return compare_digest(left, right)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    client = make_client(queue, signer=Signer(SECRETS[0], SECRETS[1:]))
    client.signer = Signer(SECRETS[0])
    other = Signer("n3wN3wN3wN3wN3wN3wN3wN3wN3wN3w").sign("job-1", now, BODY)
    good = client.headers("job-1", BODY)["HTTP_WEBHOOK_SIGNATURE"]
    for signatures, status in ((f"{good} {other}", 202), (f"{other} {other}", 401)):
        compared.clear()
        assert client.post(BODY, environ={"HTTP_WEBHOOK_SIGNATURE": signatures}).status == status
        assert compared == [(bytes, bytes)] * 2 * len(SECRETS)


def test_a_replay_after_pruning(make_client, now, tmp_path):
    """When the record of a job may be pruned at last, its request is too old to be repeated."""
    assert LEAST_RETENTION > 2 * TOLERANCE
    storage = SQLiteQueue(tmp_path / "queue.sqlite3")
    client = make_client(storage)
    ahead = client.headers("job-1", BODY, now + TOLERANCE)
    assert client.call("POST", "/dispatch", BODY, ahead).status == 202
    assert client.ask("DELETE", "/jobs/job-1").json["state"] == "cancelled"
    with closing(sqlite3.connect(tmp_path / "queue.sqlite3")) as database, database:
        database.execute("DELETE FROM job")
    later = make_client(storage, clock=lambda: now + LEAST_RETENTION)
    reply = later.call("POST", "/dispatch", BODY, ahead)
    assert reply.refusal == (401, "timestamp-out-of-range")
    assert storage.find_job("job-1") is None
    storage.close()


def test_a_request_without_a_secret_changes_nothing(client, queue):
    """What is not signed neither reads nor cancels a job, though it knows the id."""
    client.post(BODY)
    for method, path in [("GET", "/jobs/job-1"), ("DELETE", "/jobs/job-1"), ("GET", "/ping")]:
        assert client.call(method, path).refusal == FORGED
    assert queue.find_job("job-1").state == "scheduled"
