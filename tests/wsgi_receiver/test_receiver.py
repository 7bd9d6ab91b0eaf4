"""The routes, the order of the checks, and what is logged."""

import base64
import json
import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook

from dispatcher_core.aliases import AliasRegistry
from dispatcher_core.errors import QueueError, QueueUnavailable, RequestError
from dispatcher_core.signing import Signer
from dispatcher_core.status import JobError, Progress
from dispatcher_core.testing import MemoryQueue
from dispatcher_core.wire import decode_status


@dataclass(frozen=True, slots=True)
class BrokenQueue:
    """A queue that can do nothing, for this reason."""

    error: Exception

    def put(self, job):
        """Fail."""
        raise self.error

    def find_job(self, id):
        """Fail."""
        raise self.error

    def cancel_job(self, id):
        """Fail."""
        raise self.error

    def workers(self):
        """Fail."""
        raise self.error


class CountingQueue(MemoryQueue):
    """A queue that knows how often it was read."""

    reads = 0

    def find_job(self, id):
        """What is known of a job."""
        self.reads += 1
        return super().find_job(id)


class StoppedStream:
    """A body that must not be read."""

    def read(self, size):
        """Fail."""
        raise AssertionError("the body was read")


def test_a_job_is_accepted(client, queue):
    """A new job is put in its queue and answered 202, with nothing but id and state."""
    reply = client.dispatch("send-mail", payload={"to": "ann"}, queue="mails", priority=3)
    assert (reply.status, reply.json) == (202, {"id": "job-1", "state": "queued"})
    (job,) = queue.jobs
    assert (job.id, job.job, job.payload) == ("job-1", "send-mail", {"to": "ann"})
    assert (job.queue, job.priority, job.delay) == ("mails", 3, 0)


def test_a_delayed_job_is_scheduled(client, queue):
    """A job with a delay is answered as scheduled."""
    reply = client.dispatch("send-mail", payload={"to": "ann"}, delay=1.5)
    assert (reply.status, reply.json) == (202, {"id": "job-1", "state": "scheduled"})
    assert queue.jobs[0].delay == 1.5


def test_the_published_example_is_accepted(make_client, queue, secret):
    """A request that other libraries signed, with a body of theirs, is accepted."""
    client = make_client(queue, AliasRegistry({"send-mail": lambda to: None}))
    body = (
        b'{"type":"dispatch","job":"send-mail","payload":{"to":"a@b.c"},'
        b'"queue":"default","delay":0}'
    )
    signature = {"HTTP_WEBHOOK_SIGNATURE": "v1,wvau5NhBCqQAm05iwcmpfq4VLeDb5ax5WZLASZ2Jc8I="}
    assert client.post(body, "job_01HZY", signature).status == 202


@pytest.mark.parametrize("encoded", [False, True], ids=["raw", "whsec"])
def test_another_library_is_a_client(make_client, queue, now, encoded):
    """What the standardwebhooks package signs is accepted, with both kinds of secret."""
    key = "n3wN3wN3wN3wN3wN3wN3wN3wN3wN3w"
    secret = "whsec_" + base64.b64encode(key.encode()).decode() if encoded else key
    webhook = Webhook(secret if encoded else key.encode())
    body = b'{"type":"dispatch","job":"send-mail","payload":{"to":"ann"}}'
    signature = webhook.sign("job-1", datetime.fromtimestamp(now, UTC), body.decode())
    client = make_client(queue, signer=Signer(secret))
    assert client.post(body, "job-1", {"HTTP_WEBHOOK_SIGNATURE": signature}).status == 202
    path = webhook.sign("req-1", datetime.fromtimestamp(now, UTC), "GET /jobs/job-1")
    assert client.ask("GET", "/jobs/job-1", {"HTTP_WEBHOOK_SIGNATURE": path}).status == 200


def test_every_answer_has_the_common_headers(client):
    """No answer may be stored, and each tells its type and length."""
    replies = [
        client.dispatch("send-mail", payload={"to": "ann"}),
        client.dispatch("nothing", "job-2"),
        client.ask("GET", "/jobs/job-1"),
        client.call("GET", "/health"),
        client.call("GET", "/"),
    ]
    assert [reply.status for reply in replies] == [202, 422, 200, 200, 404]
    for reply in replies:
        assert reply.headers["cache-control"] == "no-store"
        assert reply.headers["content-length"] == str(len(reply.body))
        wanted = "application/json" if reply.status < 400 else "application/problem+json"
        assert reply.headers["content-type"] == wanted


def test_a_known_job_is_a_duplicate_with_its_state(client, queue):
    """The same job again is 200 with the state it has by now, and is put once."""
    client.dispatch("send-mail", payload={"to": "ann"})
    queue.set_status(replace(queue.find_job("job-1"), state="succeeded"))
    reply = client.dispatch("send-mail", payload={"to": "ann"}, delay=7, priority=5)
    assert reply.status == 200
    assert reply.json == {"id": "job-1", "state": "succeeded", "duplicate": True}
    assert len(queue.jobs) == 1


def test_an_id_that_is_something_else_is_refused(client, queue):
    """Another job under a known id is 422."""
    client.dispatch("send-mail", payload={"to": "ann"})
    reply = client.dispatch("send-mail", payload={"to": "bob"})
    assert reply.refusal == (422, "id-reused")
    assert [job.payload for job in queue.jobs] == [{"to": "ann"}]


@pytest.mark.parametrize(
    ("job", "payload", "code"),
    [
        ("nothing", {"to": "ann"}, "unknown-job"),
        ("send-mail", {}, "invalid-payload"),
        ("send-mail", {"to": "ann", "cc": "bob"}, "invalid-payload"),
    ],
)
def test_a_job_that_cannot_run_is_refused(client, queue, job, payload, code):
    """A name that is unknown, or a payload that does not fit, is 422 and not put."""
    reply = client.dispatch(job, payload=payload)
    assert reply.refusal == (422, code)
    assert queue.jobs == []


def test_a_deploy_between_two_tries_changes_nothing(client, make_client, queue):
    """What was accepted is not refused when it comes again after its handler has gone."""
    client.dispatch("send-mail", payload={"to": "ann"})
    later = make_client(queue, AliasRegistry({"send-mail": lambda other: None}))
    gone = make_client(queue, AliasRegistry())
    for deployed in (later, gone):
        reply = deployed.dispatch("send-mail", payload={"to": "ann"})
        assert (reply.status, reply.json["duplicate"]) == (200, True)
    assert gone.dispatch("send-mail", payload={"to": "bob"}).refusal == (422, "id-reused")
    assert gone.dispatch("send-mail", "job-2", payload={"to": "ann"}).refusal == (
        422,
        "unknown-job",
    )


def test_a_full_queue_between_two_tries_changes_nothing(make_client):
    """A full queue refuses what is new, with a time to come back, and knows what it has."""
    client = make_client(MemoryQueue(max_jobs=1))
    assert client.dispatch("send-mail", payload={"to": "ann"}).status == 202
    reply = client.dispatch("send-mail", "job-2", payload={"to": "bob"})
    assert reply.refusal == (429, "queue-full")
    assert int(reply.headers["retry-after"]) > 0
    assert client.dispatch("send-mail", payload={"to": "ann"}).status == 200


def test_a_job_is_accepted_without_a_read(make_client):
    """A job that can run costs one write and no look-up before it."""
    queue = CountingQueue()
    make_client(queue).dispatch("send-mail", payload={"to": "ann"})
    assert queue.reads == 0


@pytest.mark.parametrize(
    "message",
    [
        [],
        "text",
        {"job": "send-mail"},
        {"type": "dispatch"},
        {"type": "dispatch.batch", "job": "send-mail"},
        {"type": "dispatch", "job": "send-mail", "extra": 1},
        {"type": "dispatch", "job": "send-mail", "payload": [1]},
        {"type": "dispatch", "job": "send-mail", "delay": -1},
        {"type": "dispatch", "job": "send-mail", "delay": True},
        {"type": "dispatch", "job": "send-mail", "priority": 101},
        {"type": "dispatch", "job": "send-mail", "queue": ""},
        {"type": "dispatch", "job": "send mail"},
    ],
)
def test_a_message_of_another_shape_is_refused(client, queue, message):
    """Good JSON that is no dispatch is 422."""
    assert client.post(json.dumps(message).encode()).refusal == (422, "invalid-request")
    assert queue.jobs == []


def test_an_unknown_member_is_named(client):
    """The detail of the problem names what is not understood."""
    assert "extra" in client.dispatch("send-mail", extra=1).json["detail"]


def test_a_status_has_all_fields(client, queue):
    """GET answers all that is known of a job."""
    client.dispatch("send-mail", payload={"to": "ann"})
    status = replace(
        queue.find_job("job-1"),
        state="failed",
        attempt=2,
        progress=Progress(3, 20),
        error=JobError("exception", "ValueError", "no"),
    )
    queue.set_status(status)
    reply = client.ask("GET", "/jobs/job-1")
    assert reply.status == 200
    assert decode_status(reply.json) == status


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_an_unknown_job_is_not_found(client, method):
    """There is no status of a job that nobody sent, nor anything to cancel."""
    assert client.ask(method, "/jobs/nobody").refusal == (404, "not-found")


def test_a_waiting_job_is_cancelled(client):
    """DELETE cancels a job that waits and answers its status, again and again."""
    client.dispatch("send-mail", payload={"to": "ann"})
    for _ in range(2):
        reply = client.ask("DELETE", "/jobs/job-1")
        assert (reply.status, reply.json["state"]) == (200, "cancelled")


def test_a_running_job_is_asked_to_stop(client, queue):
    """DELETE of a running job leaves it running and says that it was asked to stop."""
    client.dispatch("send-mail", payload={"to": "ann"})
    queue.set_status(replace(queue.find_job("job-1"), state="running"))
    reply = client.ask("DELETE", "/jobs/job-1")
    assert (reply.status, reply.json["state"]) == (200, "running")
    assert reply.json["cancel_requested"] is True


def test_a_ping_tells_time_versions_and_workers(client):
    """GET /ping answers the time here, the versions spoken and how many workers live."""
    reply = client.ask("GET", "/ping")
    told = {"time": "2023-01-19T00:13:51.000Z", "versions": [1], "workers": None}
    assert (reply.status, reply.json) == (200, told)


def test_a_ping_is_signed(client):
    """A ping without a signature is 401: it is there to try the secret."""
    assert client.call("GET", "/ping").refusal == (401, "bad-signature")


def test_health_is_not_signed(client):
    """A load balancer may ask for the health without a secret."""
    reply = client.call("GET", "/health")
    assert (reply.status, reply.json) == (200, {"status": "ok"})


@pytest.mark.parametrize("error", [QueueUnavailable("locked"), QueueError("broken")])
def test_health_says_that_the_queue_is_unavailable(make_client, error):
    """A queue that cannot be read is 503."""
    reply = make_client(BrokenQueue(error)).call("GET", "/health")
    assert (reply.status, reply.json) == (503, {"status": "unavailable"})


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/dispatch"), ("GET", "/jobs/x"), ("DELETE", "/jobs/x"), ("GET", "/ping")],
)
@pytest.mark.parametrize(
    ("error", "refusal"),
    [
        (QueueUnavailable("disk /data/q is full"), (503, "unavailable")),
        (RuntimeError("SELECT * FROM job"), (500, "internal")),
        (QueueError("/data/q is no database"), (500, "internal")),
        (RequestError("SELECT 1", "a-code-of-its-own"), (500, "internal")),
    ],
)
def test_a_broken_queue_is_answered_without_its_words(
    make_client, caplog, method, path, error, refusal
):
    """What went wrong inside is in the log and nowhere else."""
    client = make_client(BrokenQueue(error))
    if method == "POST":
        reply = client.dispatch("send-mail", payload={"to": "ann"})
    else:
        reply = client.ask(method, path)
    assert reply.refusal == refusal
    assert ("retry-after" in reply.headers) == (refusal[0] == 503)
    assert str(error) not in reply.body.decode()
    assert str(error) in caplog.text
    assert {record.name for record in caplog.records} == {"dispatcher.receiver"}


def test_an_error_of_ours_is_logged_with_its_traceback(make_client, caplog):
    """An unexpected error is logged once, at ERROR, so that it can be found."""
    make_client(BrokenQueue(RuntimeError("oh"))).dispatch("send-mail", payload={"to": "ann"})
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert isinstance(record.exc_info[1], RuntimeError)


@pytest.mark.parametrize("method", ["HEAD", "PUT", "OPTIONS", "DELETE"])
def test_a_wrong_method_says_which_is_right(client, method):
    """405 comes with the methods that are allowed."""
    reply = client.call(method, "/dispatch")
    assert (reply.status, reply.headers["allow"]) == (405, "POST")


def test_an_answer_to_head_has_no_body(client):
    """HEAD is answered by header fields alone."""
    assert client.call("HEAD", "/health").body == b""


ORDER = [
    ("/nothing", {}, (404, "not-found")),
    ("/dispatch", {"QUERY_STRING": "a=b"}, (400, "malformed")),
    ("/dispatch", {"HTTP_WEBHOOK_SIGNATURE": ""}, (401, "bad-signature")),
    ("/dispatch", {"HTTP_WEBHOOK_TIMESTAMP": "soon"}, (400, "malformed")),
    ("/dispatch", {"CONTENT_TYPE": "text/plain"}, (415, "unsupported-media-type")),
    ("/dispatch", {"CONTENT_LENGTH": "9999999"}, (413, "too-large")),
    ("/dispatch", {"HTTP_WEBHOOK_TIMESTAMP": "1600000000"}, (401, "timestamp-out-of-range")),
]


@pytest.mark.parametrize("place", range(len(ORDER)))
def test_the_first_check_that_fails_answers(client, place):
    """Checks come in the design's order, and those before the body do not read it."""
    faults: dict[str, str] = {}
    for _, parts, _ in reversed(ORDER[place:]):
        faults |= parts
    path, _, refusal = ORDER[place]
    environ = {**client.headers("job-1", b"{"), **faults}
    reply = client.call("POST", path, b"{", environ, stream=StoppedStream(), validate=False)
    assert reply.refusal == refusal


def test_the_signature_is_checked_before_the_json(client, now):
    """An unsigned body is not parsed, and a signed one is parsed before its job is looked up."""
    signature = Signer("another-secret-that-is-long").sign("job-1", now, b"{")
    forged = {"HTTP_WEBHOOK_SIGNATURE": signature}
    assert client.post(b"{", environ=forged).refusal == (401, "bad-signature")
    assert client.post(b"{").refusal == (400, "malformed")


def test_an_empty_body_is_signed_too(client):
    """A POST signs its raw body, also when there is nothing in it; it is no JSON then."""
    assert client.post(b"").refusal == (400, "malformed")


def test_the_limit_of_a_body_can_be_set(make_client, queue):
    """A body of just the limit is taken, one byte more is not."""
    body = b'{"type":"dispatch","job":"send-mail","payload":{"to":"ann"}}'
    assert make_client(queue, max_job_body=len(body)).post(body).status == 202
    assert make_client(queue, max_job_body=len(body) - 1).post(body).status == 413


def test_an_accepted_job_is_logged_without_its_payload(client, caplog, secret):
    """The log has id, name and queue of a job, at INFO, and no secret of anybody."""
    caplog.set_level(logging.DEBUG)
    client.dispatch("send-mail", payload={"to": "ann-at-home"}, queue="mails")
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("dispatcher.receiver", logging.INFO)
    assert all(part in record.getMessage() for part in ("job-1", "send-mail", "mails"))
    assert not any(part in caplog.text for part in ("ann-at-home", "v1,", secret))


def test_a_refusal_is_logged_without_what_it_refuses(client, caplog):
    """The log has method, path and code of what was refused; of the payload nothing."""
    caplog.set_level(logging.DEBUG)
    client.dispatch("send-mail", payload={"private-key": 1})
    (record,) = caplog.records
    assert record.getMessage() == "'POST /dispatch': invalid-payload"


def test_secrets_in_transition_are_all_accepted(make_client, queue, secret):
    """While a secret is replaced both verify; one that is not listed any more does not."""
    new = "n3wN3wN3wN3wN3wN3wN3wN3wN3wN3w"
    both = make_client(queue, signer=Signer(new, [secret]))
    only = make_client(queue, signer=Signer(new))
    for client, status in ((both, 200), (only, 401)):
        assert client.ask("GET", "/ping").status == status
        client.signer = Signer(new)
        assert client.ask("GET", "/ping").status == 200
