import json

import pytest

from dispatcher_core import DeliveryError, Response
from dispatcher_core.answers import RETRYABLE, accepted, answer_of, job_status, pong

NOW = 1_700_000_000.0
AGAIN = "try again later (a dispatch with the same id stays one job)"
CHECK_URL = "check that the backend's URL is the one where its receiver is mounted"
STATUS = {
    "id": "a",
    "job": "j",
    "queue": "q",
    "state": "queued",
    "attempt": 0,
    "created_at": "2024-01-02T03:04:05.678Z",
}


def refused(response: Response) -> DeliveryError:
    """The error that an answer is turned into."""
    with pytest.raises(DeliveryError) as caught:
        answer_of(response, NOW)
    return caught.value


@pytest.mark.parametrize("status", [200, 202])
def test_a_yes_is_its_object(answer, status):
    """200 and 202 with a JSON object are accepted; unknown members are kept."""
    assert answer_of(answer(status, id="a", new=[1]), NOW) == {"id": "a", "new": [1]}


@pytest.mark.parametrize(
    "response",
    [
        Response(200, {}, b""),
        Response(200, {}, b"<html>welcome</html>"),
        Response(202, {}, b"[1]"),
        Response(200, {}, b'{"a":1,"a":2}'),
        Response(200, {}, b"\xff{}"),
        Response(201, {}, b'{"id":"a"}'),
        Response(204, {}, b""),
    ],
)
def test_another_yes_is_a_bad_answer(response):
    """A 2xx that no receiver would give says to check the URL."""
    error = refused(response)
    assert (error.code, error.status) == ("bad-answer", response.status)
    assert "URL" in str(error)


@pytest.mark.parametrize(
    ("status", "code", "advice"),
    [
        (401, "bad-signature", "both sides have the same secret"),
        (401, "timestamp-out-of-range", "clocks"),
        (404, "not-found", "URL"),
        (405, "method-not-allowed", "URL"),
        (422, "unknown-job", "that is why"),
        (422, "invalid-payload", "that is why"),
        (429, "queue-full", f"too many jobs wait there: {AGAIN}"),
        (500, "internal", f"its log says how: {AGAIN}"),
        (503, "unavailable", f"its queue cannot be used for now: {AGAIN}"),
    ],
)
def test_a_problem_says_what_to_do(problem, status, code, advice):
    """A problem document gives code and status, and advice or else the backend's own words."""
    error = refused(problem(status, code, detail="that is why"))
    assert (error.code, error.status, error.retry_after) == (code, status, None)
    assert str(error).startswith(f"the backend answered {status} {code}: ")
    assert advice in str(error)


def test_a_problem_may_say_when(problem):
    """``Retry-After`` is told to the caller."""
    assert refused(problem(429, "queue-full", {"retry-after": "30"})).retry_after == 30.0


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"content-type": "text/html"}, b"<html>"),
        ({"content-type": "application/json"}, b'{"code":"other"}'),
        ({"content-type": "application/problem+json"}, b"<html>"),
        ({"content-type": "application/problem+json"}, b"[]"),
        ({"content-type": "application/problem+json"}, b'{"code":7}'),
        ({"content-type": "application/problem+json"}, b'{"code":"Bad Code"}'),
        ({}, b""),
    ],
)
def test_a_refusal_that_is_no_problem_is_rejected(headers, body):
    """A refusal by something that is no receiver has the code ``rejected``."""
    error = refused(Response(403, headers, body))
    assert (error.code, error.status) == ("rejected", 403)
    assert "403" in str(error)


@pytest.mark.parametrize("status", sorted(RETRYABLE))
def test_a_passing_refusal_of_something_else_says_to_come_back(status):
    """An answer that may be better the next time says so, where no problem document does."""
    text = str(refused(Response(status, {"content-type": "text/html"}, b"<html>")))
    assert text.startswith(f"the backend answered {status}: its server says so, or a proxy")
    assert text.endswith(AGAIN)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 501])
def test_a_refusal_of_something_else_says_to_check_the_url(status):
    """What is no receiver stands in front of one, or in its place."""
    text = str(refused(Response(status, {"content-type": "text/html"}, b"<html>")))
    assert f"answered {status}: a receiver would say why, so something before it" in text
    assert text.endswith(CHECK_URL)


def test_a_redirect_names_its_target():
    """A redirect is not followed; the error says where it leads."""
    error = refused(Response(308, {"location": "https://new.test/dispatch"}, b""))
    assert (error.code, error.status) == ("rejected", 308)
    assert "https://new.test/dispatch" in str(error)
    assert "nowhere" in str(refused(Response(302, {}, b"")))


def test_text_of_the_other_side_is_tamed(problem):
    """Details cannot forge a log line, and are cut."""
    text = str(refused(problem(422, "invalid-payload", detail="a\nERROR b\x1b[2J" + "x" * 9999)))
    assert text.isprintable()
    assert len(text) < 700


@pytest.mark.parametrize(
    ("members", "state", "duplicate"),
    [
        ({"id": "a", "state": "queued"}, "queued", False),
        ({"id": "a", "state": "scheduled", "duplicate": False}, "scheduled", False),
        ({"id": "a", "state": "failed", "duplicate": True}, "failed", True),
        ({"id": "a", "state": "queued", "duplicate": "yes"}, "queued", False),
    ],
)
def test_a_dispatch_is_accepted(answer, members, state, duplicate):
    """An answer with our id and a known state is a success."""
    result = accepted("a", answer(202, **members), NOW)
    assert result.ok
    assert not result.failed
    assert (result.id, result.ids, result.state) == ("a", ("a",), state)
    assert result.duplicate is duplicate
    assert result.response == members
    assert result.raise_for_error() is result


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"id": "b", "state": "queued"},
        {"id": "a"},
        {"id": "a", "state": "done"},
        {"id": "a", "state": None},
        {"id": "a", "state": ["queued"]},
        {"id": ["a"], "state": "queued"},
    ],
)
def test_an_answer_to_something_else_is_no_success(answer, members):
    """Another id, or no known state, is a bad answer."""
    with pytest.raises(DeliveryError) as caught:
        accepted("a", answer(202, **members), NOW)
    assert caught.value.code == "bad-answer"


def test_a_status_is_decoded(answer):
    """The answer to a question for a job becomes its status."""
    status = job_status("a", answer(200, **STATUS, more="ignored"), NOW)
    assert (status.id, status.state, status.created_at.microsecond) == ("a", "queued", 678_000)


@pytest.mark.parametrize(
    "change",
    [
        {"id": "b"},
        {"state": "done"},
        {"state": []},
        {"created_at": None},
        {"created_at": "yesterday"},
        {"created_at": "2024-01-02T03:04:05"},
        {"created_at": "0001-01-01T00:00:00+23:00"},
        {"attempt": "many"},
        {"progress": 5},
        {"progress": {"done": 1}},
        {"error": "broken"},
        {"finished_at": 12},
    ],
)
def test_an_ill_formed_status_is_a_bad_answer(answer, change):
    """A status that does not make sense is an error of ours, whatever is wrong in it."""
    with pytest.raises(DeliveryError) as caught:
        job_status("a", answer(200, **{**STATUS, **change}), NOW)
    assert caught.value.code == "bad-answer"


@pytest.mark.parametrize("time", ["2023-11-14T22:13:22.500Z", "2023-11-14T23:13:22.500+01:00"])
def test_a_pong_tells_the_skew(answer, time):
    """The backend's clock is compared with ours, as Unix seconds or as RFC 3339 text."""
    told = pong(answer(200, time=time, versions=[1, 2], workers=3), NOW)
    assert (told.reachable, told.secret_accepted, told.error) == (True, True, None)
    assert (told.clock_skew, told.workers, told.versions) == (2.5, 3, (1, 2))


@pytest.mark.parametrize("workers", [None, "two", True])
def test_workers_may_be_unknown(answer, workers):
    """A queue that cannot know has no number of workers."""
    assert pong(answer(200, versions=[1], workers=workers), NOW).workers is None


@pytest.mark.parametrize("time", [None, True, "late", [], {}])
def test_the_skew_may_be_unknown(answer, time):
    """A time that is none is no reason to fail."""
    assert pong(answer(200, versions=[1], time=time), NOW).clock_skew is None


def test_a_refused_secret_is_a_pong(problem):
    """A wrong secret says so: the backend is there, and does not accept us."""
    told = pong(problem(401, "bad-signature"), NOW)
    assert (told.reachable, told.secret_accepted, told.clock_skew) == (True, False, None)
    assert "same secret" in str(told.error)


def test_a_wrong_clock_is_a_pong(problem):
    """A clock that is off says by how much."""
    told = pong(problem(401, "timestamp-out-of-range", time="2023-11-14T22:06:40.000Z"), NOW)
    assert (told.secret_accepted, told.clock_skew) == (False, -400.0)
    assert "clocks" in str(told.error)


@pytest.mark.parametrize(
    "response",
    [
        Response(401, {"content-type": "text/html"}, b"log in"),
        Response(404, {}, b""),
        Response(503, {}, b""),
        Response(200, {}, b"pong"),
        Response(200, {}, json.dumps({"versions": "1"}).encode()),
        Response(200, {}, json.dumps({"versions": [True]}).encode()),
    ],
)
def test_something_else_than_a_receiver_is_no_pong(response):
    """What is no receiver raises an error."""
    with pytest.raises(DeliveryError):
        pong(response, NOW)
