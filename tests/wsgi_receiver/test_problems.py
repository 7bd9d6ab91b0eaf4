"""Problem documents."""

import pytest

from dispatcher_core.errors import (
    IdReused,
    InvalidPayload,
    QueueFull,
    QueueUnavailable,
    RequestError,
    SignatureError,
    UnknownJob,
)
from dispatcher_wsgi_receiver.answers import Answer
from dispatcher_wsgi_receiver.problems import Refusal, internal_problem, problem

EXPECTED = [
    (RequestError("x"), 400, "malformed"),
    (SignatureError("x", "malformed"), 400, "malformed"),
    (SignatureError("x"), 401, "bad-signature"),
    (SignatureError("x", "timestamp-out-of-range"), 401, "timestamp-out-of-range"),
    (Refusal("x", "not-found"), 404, "not-found"),
    (Refusal("x", "method-not-allowed"), 405, "method-not-allowed"),
    (Refusal("x", "length-required"), 411, "length-required"),
    (Refusal("x", "too-large"), 413, "too-large"),
    (Refusal("x", "unsupported-media-type"), 415, "unsupported-media-type"),
    (UnknownJob("x"), 422, "unknown-job"),
    (InvalidPayload("x"), 422, "invalid-payload"),
    (RequestError("x", "invalid-request"), 422, "invalid-request"),
    (Refusal("x", "invalid-batch"), 422, "invalid-batch"),
    (IdReused("x"), 422, "id-reused"),
    (QueueFull("x"), 429, "queue-full"),
    (QueueUnavailable("x"), 503, "unavailable"),
    (Refusal("x", "unavailable"), 503, "unavailable"),
]


@pytest.mark.parametrize(("error", "status", "code"), EXPECTED, ids=lambda value: str(value))
def test_every_error_has_its_status_and_document(error, status, code):
    """Each error becomes a document with all members of RFC 9457 and its code."""
    answer = problem(error, 5.0)
    assert answer.status == answer.content["status"] == status
    assert answer.content["code"] == code
    assert answer.media_type == "application/problem+json"
    assert {"type", "title", "status", "detail", "code"} <= answer.content.keys()
    assert all(answer.content[member] for member in ("type", "title", "detail"))


@pytest.mark.parametrize("code", ["bad-signature", "timestamp-out-of-range"])
def test_a_challenge_comes_with_401(code):
    """An answer 401 has a challenge (RFC 9110, section 15.5.2)."""
    assert problem(SignatureError("x", code), 5.0).headers == (
        ("WWW-Authenticate", "Webhook-Signature"),
    )


def test_the_time_is_told_to_whom_the_clock_is_off():
    """Only a timestamp out of range is answered with the time here."""
    assert problem(SignatureError("x", "timestamp-out-of-range"), 5.5).content["time"] == (
        "1970-01-01T00:00:05.500Z"
    )
    assert "time" not in problem(SignatureError("x"), 5.5).content


@pytest.mark.parametrize("error", [QueueFull("x"), QueueUnavailable("x")])
def test_what_may_pass_says_when_to_retry(error):
    """An answer that asks to come back says after how many seconds."""
    ((name, value),) = problem(error, 5.0).headers
    assert name == "Retry-After"
    assert int(value) > 0


@pytest.mark.parametrize("kind", [QueueFull, QueueUnavailable])
def test_what_a_queue_says_of_itself_is_not_told(kind):
    """A queue's own words, which may name files and statements, stay inside."""
    answer = problem(kind("INSERT INTO job: /var/lib/jobs.sqlite3"), 5.0)
    assert "INSERT" not in answer.content["detail"]
    assert "/var" not in answer.content["detail"]


def test_a_refusal_of_the_receiver_is_told_in_its_own_words():
    """What the receiver itself refuses says why, and may add members to the document."""
    error = Refusal("two are enough", "unavailable", members={"most": 2})
    content = problem(error, 5.0).content
    assert (content["detail"], content["most"]) == ("two are enough", 2)


def test_an_internal_error_has_no_details():
    """An error of our own is 500 without a word about it."""
    answer = internal_problem()
    assert (answer.status, answer.content["code"]) == (500, "internal")


def test_an_answer_survives_a_lone_surrogate():
    """Text that UTF-8 cannot hold is sent as an escape, not as an error."""
    started = []
    answer = Answer(200, {"message": "\udc80"})
    body = answer.send(lambda status, headers: started.append((status, headers)), "GET")
    assert body == [b'{"message":"\\udc80"}']
    assert ("Content-Length", "20") in started[0][1]
