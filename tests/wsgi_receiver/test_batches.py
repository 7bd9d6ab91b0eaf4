"""Batches at the receiver: taken all or none, followed, cancelled, and refused with reasons."""

import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from dispatcher_core.aliases import AliasRegistry
from dispatcher_core.batch_wire import decode_batch_status
from dispatcher_core.errors import QueueError, QueueUnavailable
from dispatcher_core.signing import Signer, signed_path
from dispatcher_core.testing import MemoryQueue

MIB = 1024 * 1024
SEEN_BY_SENDERS = MIB
BATCH = "/dispatch/batch"
DISPATCH = b'{"type":"dispatch","job":"send-mail","payload":{"to":"ann"}}'


class Unread:
    """A body that must not be read."""

    read = readline = readlines = __iter__ = None


@dataclass(slots=True)
class HeldStream:
    """A body that is being read until it is let go; it then ends, or breaks.

    It is held before the byte that has this number.
    """

    content: bytes
    held_at: int = MIB
    given: int = 0
    reading: threading.Event = field(default_factory=threading.Event)
    let_go: threading.Event = field(default_factory=threading.Event)

    def read(self, size: int, /) -> bytes:
        """As much as is asked, once it may go."""
        if self.given >= self.held_at:
            self.reading.set()
            assert self.let_go.wait(20)
        piece = self.content[self.given : self.given + size]
        self.given += len(piece)
        return piece


class BrokenQueue:
    """A queue that can do nothing with batches, for this reason."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def fail(self, _):
        """Fail."""
        raise self._error

    put_batch = find_batch = cancel_batch = is_taken = fail


class ForgetfulQueue(MemoryQueue):
    """A queue that has forgotten every batch by the time that it is asked."""

    def find_batch(self, id):
        """Nothing."""


def item(number: int, job: str = "send-mail", **members: object) -> dict[str, object]:
    """A job in a batch."""
    return {"id": f"job-{number}", "job": job, "payload": {"to": f"ann-{number}"}, **members}


def body_of(*items: object, **members: object) -> bytes:
    """The body that dispatches a batch of these jobs."""
    message = {"type": "dispatch.batch", "jobs": items, **members}
    return json.dumps(message, separators=(",", ":")).encode()


def large_body(length: int, first: int = 0) -> bytes:
    """A batch of one job whose body has exactly this length."""
    missing = length - len(body_of(item(first, payload={"to": ""})))
    return body_of(item(first, payload={"to": "x" * missing}))


@pytest.fixture
def send(client):
    """Sends a batch, by default with the client that knows ``send-mail``."""

    def send_body(body, id="batch-1", *, via=client, environ=None, **options):
        parts = {**via.headers(id, body), **(environ or {})}
        return via.call("POST", BATCH, body, parts, **options)

    return send_body


@pytest.fixture
def deployed(make_client, queue):
    """A client of the same queue after a deploy that took every job away."""
    return make_client(queue, AliasRegistry({"another": lambda: None}))


def test_a_batch_is_accepted(send, queue):
    """A new batch is answered 202 with its id, the ids of its jobs in order, and its state."""
    reply = send(body_of(item(1), item(2, queue="slow", delay=9, priority=5), queue="mails"))
    ids = ["job-1", "job-2"]
    assert reply.status == 202
    assert reply.json == {"id": "batch-1", "ids": ids, "state": "running"}
    assert [job.id for job in queue.jobs] == ids
    first, second = queue.jobs
    assert (first.queue, first.delay, first.priority) == ("mails", 0, 0)
    assert (second.queue, second.delay, second.priority) == ("slow", 9, 5)
    assert queue.find_job("job-1").batch_id == "batch-1"


def test_the_callbacks_of_a_batch_are_taken_with_it(client, send, queue):
    """A callback is a job that can be followed from the start; the status has its id."""
    callbacks = {"then": item(2), "catch": item(3), "finally": item(4)}
    reply = send(body_of(item(1), **callbacks))
    assert reply.json["ids"] == ["job-1"]
    status = client.ask("GET", "/batches/batch-1").json
    named = [status[f"{name}_id"] for name in ("then", "catch", "finally")]
    assert named == ["job-2", "job-3", "job-4"]
    for id in named:
        job = client.ask("GET", f"/jobs/{id}").json
        assert (job["state"], job["available_at"]) == ("scheduled", None)


def test_an_empty_batch_has_succeeded(client, send):
    """A batch without jobs is over at once, and a second try hears the same."""
    assert send(body_of()).json == {"id": "batch-1", "ids": [], "state": "succeeded"}
    assert client.ask("GET", "/batches/batch-1").json["state"] == "succeeded"
    again = send(body_of())
    assert (again.status, again.json["state"]) == (200, "succeeded")


def test_a_known_batch_is_a_duplicate(client, send, queue):
    """The same batch again is 200 with the stored ids and its state by now, put once."""
    send(body_of(item(1), item(2)))
    client.ask("DELETE", "/batches/batch-1")
    other_ids = [item(1, id="x"), item(2, id="y", delay=3, priority=1)]
    for body in (body_of(item(1), item(2)), body_of(*other_ids)):
        reply = send(body)
        assert reply.status == 200
        assert reply.json == {
            "id": "batch-1",
            "ids": ["job-1", "job-2"],
            "state": "cancelled",
            "duplicate": True,
        }
    assert [job.id for job in queue.jobs] == ["job-1", "job-2"]


def test_a_batch_that_is_forgotten_meanwhile_is_tried_again(make_client, send):
    """A duplicate whose state cannot be told any more is 503: the next try is a new batch."""
    forgetful = make_client(ForgetfulQueue())
    assert send(body_of(item(1)), via=forgetful).status == 202
    assert send(body_of(item(1)), via=forgetful).refusal == (503, "unavailable")


def test_jobs_that_are_no_batch(client, send, queue):
    """With should_batch false the jobs are single ones, and nothing is known by the set's id."""
    body = body_of(item(1), item(2), should_batch=False)
    reply = send(body, "set-1")
    answer = {"id": "set-1", "ids": ["job-1", "job-2"], "state": "running"}
    assert (reply.status, reply.json) == (202, answer)
    for method in ("GET", "DELETE"):
        assert client.ask(method, "/batches/set-1").refusal == (404, "not-found")
    job = client.ask("GET", "/jobs/job-1").json
    assert (job["state"], job["batch_id"]) == ("queued", None)
    again = send(body, "set-1")
    assert (again.status, again.json) == (200, {**answer, "duplicate": True})
    renamed = send(body_of(item(1, id="x"), item(2, id="y"), should_batch=False), "set-1")
    assert (renamed.status, renamed.json["ids"]) == (200, ["job-1", "job-2"])
    assert len(queue.jobs) == 2


@pytest.mark.parametrize("should_batch", [True, False])
def test_ids_that_are_something_else_are_refused(client, send, queue, should_batch):
    """Another batch under a known id, or a known id in a new batch, is 422, and nothing is put."""
    client.dispatch("send-mail", "single", payload={"to": "ann"})
    send(body_of(item(1), should_batch=should_batch))
    attempts = [
        ("batch-1", body_of(item(2), should_batch=should_batch)),
        ("batch-1", body_of(item(1), should_batch=not should_batch)),
        ("batch-1", body_of(item(1), item(2), should_batch=should_batch)),
        ("single", body_of(item(2), should_batch=should_batch)),
        ("job-1", body_of(item(2), should_batch=should_batch)),
        ("batch-2", body_of(item(2), item(1), should_batch=should_batch)),
        ("batch-2", body_of(item(2), item(3, id="batch-1"), should_batch=should_batch)),
        ("batch-2", body_of(item(2), then=item(1))),
    ]
    for id, body in attempts:
        assert send(body, id).refusal == (422, "id-reused"), body
    assert [job.id for job in queue.jobs] == ["single", "job-1"]


def test_the_id_of_a_batch_cannot_become_a_job(client, send):
    """Jobs, batches and sets share one namespace."""
    send(body_of(item(1)))
    send(body_of(item(2), should_batch=False), "set-1")
    for id in ("batch-1", "set-1"):
        reply = client.dispatch("send-mail", id, payload={"to": "ann"})
        assert reply.refusal == (422, "id-reused")


def test_every_job_that_cannot_run_is_named(send, queue):
    """Jobs by their index and callbacks by their name, each with its code; nothing is put."""
    reply = send(
        body_of(
            item(0),
            item(1, "nothing"),
            item(2, payload={}),
            item(3, payload={"to": "ann", "cc": "bob"}),
            item(4),
            item(5, "nothing", payload={}),
            **{"then": item(6), "catch": item(7, "nobody"), "finally": item(8, payload={})},
        )
    )
    assert reply.refusal == (422, "invalid-batch")
    assert [(error["at"], error["code"]) for error in reply.json["errors"]] == [
        (1, "unknown-job"),
        (2, "invalid-payload"),
        (3, "invalid-payload"),
        (5, "unknown-job"),
        ("catch", "unknown-job"),
        ("finally", "invalid-payload"),
    ]
    details = [error["detail"] for error in reply.json["errors"]]
    named = ["nothing", "'to'", "'cc'", "nothing", "nobody", "'to'"]
    assert all(name in detail for name, detail in zip(named, details, strict=True))
    assert reply.headers["content-type"] == "application/problem+json"
    assert queue.jobs == []


@pytest.mark.parametrize("should_batch", [True, False])
def test_a_refused_batch_takes_no_ids(send, queue, should_batch):
    """What was refused may be sent again, put right, under the same ids."""
    bad = body_of(item(1), item(2, "nothing"), should_batch=should_batch)
    assert send(bad).refusal == (422, "invalid-batch")
    assert send(bad).refusal == (422, "invalid-batch")
    assert send(body_of(item(1), item(2), should_batch=should_batch)).status == 202
    assert len(queue.jobs) == 2


def test_the_first_hundred_reasons_are_told(send, queue):
    """Of many jobs that cannot run the first hundred are named, in order."""
    jobs = [item(number, "send-mail" if number == 7 else "nothing") for number in range(150)]
    reply = send(body_of(*jobs, then=item(200, "nothing")))
    places = [error["at"] for error in reply.json["errors"]]
    assert places == [number for number in range(101) if number != 7]
    assert queue.jobs == []


def test_reasons_are_short_enough_for_a_sender(send):
    """However long the names in payloads are, a sender reads all of the answer."""
    jobs = [item(number, payload={"to": 1, "\U0001f4e7" * 30_000: 2}) for number in range(120)]
    reply = send(json.dumps({"type": "dispatch.batch", "jobs": jobs}, ensure_ascii=False).encode())
    assert reply.refusal == (422, "invalid-batch")
    assert len(reply.json["errors"]) == 100
    assert len(reply.body) < SEEN_BY_SENDERS


@pytest.mark.parametrize("should_batch", [True, False])
def test_a_deploy_between_two_tries_changes_nothing(deployed, send, queue, should_batch):
    """What was accepted is not refused when it comes again after its handlers have gone."""
    body = body_of(item(1), item(2), should_batch=should_batch)
    assert send(body).status == 202
    reply = send(body, via=deployed)
    assert (reply.status, reply.json["ids"]) == (200, ["job-1", "job-2"])
    assert len(queue.jobs) == 2


def test_a_deploy_that_takes_a_callback_away_changes_nothing(make_client, send, queue):
    """A batch is known again by its id, also where only a callback cannot run any more."""
    body = body_of(item(1), then=item(2, "sum-up", payload={}))
    registry = AliasRegistry({"send-mail": lambda to: None, "sum-up": lambda: None})
    assert send(body, via=make_client(queue, registry)).status == 202
    assert send(body).status == 200


@pytest.mark.parametrize("should_batch", [True, False])
def test_a_batch_with_new_job_ids_is_known_after_a_deploy(deployed, send, should_batch):
    """A batch or set is known by its own id, whatever ids its jobs have at the second try."""
    send(body_of(item(1), should_batch=should_batch))
    reply = send(body_of(item(1, id="x"), should_batch=should_batch), via=deployed)
    assert (reply.status, reply.json["ids"]) == (200, ["job-1"])


@pytest.mark.parametrize("should_batch", [True, False])
def test_a_known_id_lets_no_unknown_job_in(client, send, queue, should_batch):
    """Where ids are taken by something else, a job that cannot run is not put either."""
    client.dispatch("send-mail", "job-1", payload={"to": "ann"})
    send(body_of(item(2)), "batch-2")
    attempts = [
        ("job-1", body_of(item(3, "nothing"), should_batch=should_batch), "id-reused"),
        ("batch-2", body_of(item(3, "nothing"), should_batch=should_batch), "id-reused"),
        ("batch-3", body_of(item(1), item(3), should_batch=should_batch), "id-reused"),
        ("batch-3", body_of(item(1, "nothing"), should_batch=should_batch), "invalid-batch"),
        ("batch-3", body_of(item(3), then=item(1, "nothing")), "invalid-batch"),
    ]
    for id, body, code in attempts:
        assert send(body, id).refusal == (422, code), body
    assert [job.id for job in queue.jobs] == ["job-1", "job-2"]


def test_a_full_queue_takes_no_part_of_a_batch(make_client, send):
    """A batch that does not fit is 429 as a whole; one that was accepted is still known."""
    queue = MemoryQueue(max_jobs=3)
    client = make_client(queue)
    body = body_of(item(1), item(2))
    assert send(body, via=client).status == 202
    reply = send(body_of(item(3), item(4)), "batch-2", via=client)
    assert reply.refusal == (429, "queue-full")
    assert int(reply.headers["retry-after"]) > 0
    assert len(queue.jobs) == 2
    assert send(body_of(item(3)), "batch-2", via=client).status == 202
    assert send(body, via=client).status == 200


def test_the_most_jobs_that_a_batch_may_have(send, queue):
    """10,000 jobs are taken, and a sender can read the answer; one more is 413."""
    jobs = [item(number, id=f"{number:064d}") for number in range(10_001)]
    reply = send(body_of(*jobs))
    assert reply.refusal == (413, "too-large")
    assert queue.jobs == []
    reply = send(body_of(*jobs[:-1]))
    assert reply.status == 202
    assert len(reply.json["ids"]) == len(queue.jobs) == 10_000
    assert len(reply.body) < SEEN_BY_SENDERS


def test_the_most_bytes_that_a_batch_may_have(send, queue):
    """16 MiB are taken; one byte more is 413 before any of it is read."""
    assert send(large_body(16 * MIB)).status == 202
    length = {"CONTENT_LENGTH": str(16 * MIB + 1)}
    reply = send(b"", "batch-2", environ=length, stream=Unread(), validate=False)
    assert reply.refusal == (413, "too-large")
    assert len(queue.jobs) == 1


def test_the_limit_of_a_batch_can_be_set(make_client, queue, send):
    """A body of just the limit is taken, one byte more is not."""
    body = body_of(item(1))
    less = make_client(queue, max_batch_body=len(body) - 1)
    assert send(body, via=less).refusal == (413, "too-large")
    assert send(body, via=make_client(queue, max_batch_body=len(body))).status == 202


@pytest.mark.parametrize(
    ("body", "code", "named"),
    [
        (b"", "malformed", ""),
        (b"{", "malformed", ""),
        (b"\xff", "malformed", ""),
        (b"[]", "invalid-request", ""),
        (b'{"type":"dispatch.batch"}', "invalid-request", '"jobs"'),
        (b'{"type":"dispatch.batch","jobs":{}}', "invalid-request", '"jobs"'),
        (b'{"type":"dispatch.batches","jobs":[]}', "invalid-request", '"type"'),
        (body_of(item(1), []), "invalid-request", "jobs[1]"),
        (body_of(item(1), item(2, extra=1)), "invalid-request", "extra"),
        (body_of(item(1), item(2, delay=-1)), "invalid-request", "jobs[1]"),
        (body_of(item(1), {"job": "send-mail"}), "invalid-request", '"id"'),
        (body_of({"id": "x"}), "invalid-request", '"job"'),
        (body_of(item(1), item(2), item(1)), "invalid-request", "job-1"),
        (body_of(item(1, id="batch-1")), "invalid-request", "batch-1"),
        (body_of(item(1), then=item(1)), "invalid-request", "job-1"),
        (body_of(item(1), then=item(2), catch=item(2)), "invalid-request", "job-2"),
        (body_of(item(1), catch="send-mail"), "invalid-request", "catch"),
        (body_of(item(1), should_batch=False, then=item(2)), "invalid-request", "callbacks"),
        (body_of(item(1), should_batch=0), "invalid-request", "should_batch"),
        (body_of(item(1), allow_failures=None), "invalid-request", "allow_failures"),
        (body_of(item(1), delay=0), "invalid-request", "delay"),
    ],
)
def test_what_is_no_batch_is_refused(send, queue, body, code, named):
    """What breaks the wire format is refused with the place that does, and nothing is put."""
    reply = send(body)
    assert reply.json["code"] == code
    assert named in reply.json["detail"]
    assert queue.jobs == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"ann-2", b"eve-2"),
        (b"job-2", b"job-3"),
        (b"q-1", b"q-2"),
        (b"true", b"false"),
        (b"]", b"]  "),
        (b"]", b',{"id":"job-9","job":"send-mail","payload":{"to":"eve"}}]'),
        (b"sum-up", b"cut-up"),
    ],
)
def test_an_altered_item_is_refused(client, queue, old, new):
    """The signature covers every byte of every job, callback and option."""
    body = body_of(item(1), item(2), then=item(4, "sum-up"), queue="q-1", allow_failures=True)
    altered = body.replace(old, new, 1)
    assert altered != body
    reply = client.call("POST", BATCH, altered, client.headers("batch-1", body))
    assert reply.refusal == (401, "bad-signature")
    assert queue.jobs == []


def test_a_batch_that_is_not_signed_is_refused(client, send, queue, now):
    """No signature, another secret, another id or another time is 401; nothing is put."""
    body = body_of(item(1))
    forged = Signer("another-secret-that-is-long").sign("batch-1", now, body)
    attempts = [
        client.call("POST", BATCH, body),
        send(body, environ={"HTTP_WEBHOOK_SIGNATURE": forged}),
        send(body, environ={"HTTP_WEBHOOK_ID": "batch-2"}),
        send(body, environ={"HTTP_WEBHOOK_TIMESTAMP": str(now + 1)}),
    ]
    assert {reply.refusal for reply in attempts} == {(401, "bad-signature")}
    old = client.call("POST", BATCH, body, client.headers("batch-1", body, now - 301))
    assert old.refusal == (401, "timestamp-out-of-range")
    assert queue.jobs == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (BATCH, DISPATCH),
        (BATCH, b'{"type":"dispatch","jobs":[]}'),
        ("/dispatch", body_of()),
        ("/dispatch", body_of(item(1))),
        ("/dispatch", b'{"type":"dispatch.batch","job":"send-mail","payload":{"to":"ann"}}'),
    ],
)
def test_a_body_is_of_no_use_at_the_other_path(client, queue, path, body):
    """A signed job is no batch and a signed batch no job, even where only the type says so."""
    reply = client.call("POST", path, body, client.headers("id-1", body))
    assert reply.refusal == (422, "invalid-request")
    assert queue.jobs == []
    assert client.ask("GET", "/batches/id-1").status == 404


def test_a_status_has_all_fields(client, send, queue):
    """GET answers all that is known of a batch, DELETE cancels it and answers the same."""
    send(body_of(item(1), item(2), then=item(3)))
    status = decode_batch_status(client.ask("GET", "/batches/batch-1").json)
    assert status == queue.find_batch("batch-1")
    assert (status.state, status.total, status.pending) == ("running", 2, 2)
    for _ in range(2):
        reply = client.ask("DELETE", "/batches/batch-1")
        assert (reply.status, reply.json["state"]) == (200, "cancelled")
        assert (reply.json["pending"], reply.json["cancelled"]) == (0, 2)
    assert client.ask("GET", "/jobs/job-1").json["state"] == "cancelled"
    assert client.ask("GET", "/batches/batch-1").json == reply.json


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_an_unknown_batch_is_not_found(client, method):
    """A batch that nobody sent is 404, and so is one asked for by the id of a job."""
    client.dispatch("send-mail", payload={"to": "ann"})
    for id in ("nobody", "job-1"):
        assert client.ask(method, f"/batches/{id}").refusal == (404, "not-found")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_batch_is_not_a_job(client, send, method):
    """Asked for as a job, a batch is 404 and stays as it is."""
    send(body_of(item(1)))
    assert client.ask(method, "/jobs/batch-1").refusal == (404, "not-found")
    assert client.ask("GET", "/batches/batch-1").json["state"] == "running"


@pytest.mark.parametrize(
    ("method", "signed"),
    [
        ("GET", ("GET", "/jobs/batch-1")),
        ("DELETE", ("GET", "/batches/batch-1")),
        ("DELETE", ("DELETE", "/jobs/batch-1")),
        ("DELETE", ("DELETE", "/batches/batch-2")),
    ],
)
def test_method_and_path_are_signed(client, send, method, signed):
    """A signature for another method or path neither shows nor cancels a batch."""
    send(body_of(item(1)))
    headers = client.headers("req-1", signed_path(*signed))
    assert client.call(method, "/batches/batch-1", None, headers).refusal[0] == 401
    assert client.call(method, "/batches/batch-1").refusal[0] == 401
    assert client.ask("GET", "/batches/batch-1").json["state"] == "running"


@pytest.mark.parametrize(
    ("error", "refusal"),
    [
        (QueueUnavailable("disk /data/q is full"), (503, "unavailable")),
        (RuntimeError("SELECT * FROM batch"), (500, "internal")),
        (QueueError("/data/q is no database"), (500, "internal")),
    ],
)
def test_a_broken_queue_is_answered_without_its_words(make_client, caplog, send, error, refusal):
    """What went wrong inside is in the log and nowhere else."""
    client = make_client(BrokenQueue(error))
    replies = [
        send(body_of(item(1)), via=client),
        send(body_of(item(1, "nothing")), via=client),
        client.ask("GET", "/batches/batch-1"),
        client.ask("DELETE", "/batches/batch-1"),
    ]
    for reply in replies:
        assert reply.refusal == refusal
        assert ("retry-after" in reply.headers) == (refusal[0] == 503)
        assert str(error) not in reply.body.decode()
    assert str(error) in caplog.text


def test_the_log_has_no_payload(send, caplog):
    """What is accepted, known and refused is logged by its ids and codes alone."""
    caplog.set_level(logging.INFO)
    send(body_of(item(1, payload={"to": "ann-at-home"})))
    send(body_of(item(1, payload={"to": "ann-at-home"})))
    send(body_of(item(2, payload={"private-key": 1})), "batch-2")
    assert [record.getMessage() for record in caplog.records] == [
        "accepted the batch batch-1 of 1 jobs",
        "known already: the batch batch-1 of 1 jobs",
        "'POST /dispatch/batch': invalid-batch",
    ]


@pytest.fixture
def hold(send):
    """Starts to send big bodies; each is being read until it is let go."""
    held: list[HeldStream] = []
    with ThreadPoolExecutor(8) as threads:

        def start(number, body, content=None, held_at=MIB, **options):
            stream = HeldStream(body if content is None else content, held_at)
            held.append(stream)
            options |= {"stream": stream, "validate": False}
            reply = threads.submit(send, body, f"batch-{number}", **options)
            assert stream.reading.wait(20)
            return stream, reply

        yield start
        for stream in held:
            stream.let_go.set()


def test_two_big_bodies_are_read_at_once(client, send, hold, queue):
    """A third body over 1 MiB is 503, and no more read; smaller ones are read all the while."""
    first, second = (hold(number, large_body(MIB + 1, number)) for number in (1, 2))
    big = large_body(MIB + 1, 3)
    for _ in range(3):
        stream = HeldStream(big)
        reply = send(big, "batch-3", stream=stream, validate=False)
        assert reply.refusal == (503, "unavailable")
        assert stream.given == MIB
        assert int(reply.headers["retry-after"]) > 0
        assert "queue" not in reply.json["detail"]
    assert queue.jobs == []
    assert send(large_body(MIB, 4), "batch-4").status == 202
    assert client.post(DISPATCH, "single").status == 202
    first[0].let_go.set()
    assert first[1].result(20).status == 202
    assert send(big, "batch-3").status == 202
    second[0].let_go.set()
    assert second[1].result(20).status == 202
    assert len(queue.jobs) == 5


def test_what_is_only_announced_takes_no_place(hold, send, queue):
    """Of any number of clients that announce a big body, none keeps others from sending one."""
    idle = [hold(number, large_body(MIB + 1, number), held_at=0) for number in range(4)]
    assert send(large_body(MIB + 1, 5), "batch-5").status == 202
    for stream, reply in idle:
        stream.let_go.set()
        assert reply.result(20).status in (202, 503)


@pytest.mark.parametrize(
    ("content", "environ", "status"),
    [
        (b"x" * MIB, {}, 400),
        (None, {"HTTP_WEBHOOK_SIGNATURE": "v1,x"}, 401),
        (b"x" * (MIB + 1), {}, 401),
    ],
    ids=["cut off", "forged", "other bytes"],
)
def test_whatever_becomes_of_a_big_body_the_next_is_read(hold, send, content, environ, status):
    """A big body that is refused once it was read leaves its place to the next."""
    for number in range(4):
        stream, reply = hold(number, large_body(MIB + 1), content, environ=environ)
        stream.let_go.set()
        assert reply.result(20).status == status
    assert send(large_body(MIB + 1)).status == 202


def test_the_body_of_a_job_may_be_a_big_one(make_client, hold, queue):
    """The rule is for bodies, whatever they are: also of jobs, where the limit is set higher."""
    client = make_client(queue, max_job_body=2 * MIB)
    for number in (1, 2):
        hold(number, large_body(MIB + 1, number), via=client)
    body = DISPATCH + b" " * MIB
    reply = client.post(body, stream=HeldStream(body), validate=False)
    assert reply.refusal == (503, "unavailable")
