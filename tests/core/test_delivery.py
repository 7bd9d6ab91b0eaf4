import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime, formatdate

import pytest

from dispatcher_core import PluginNotFound, Response, SendFailed, Signer
from dispatcher_core.answers import RETRYABLE, retry_after
from dispatcher_core.delivery import Call, Clock, Delivery

SECRET = "A1b2" * 16
URL = "https://backend.test/base"
POST = Call("POST", "/dispatch", "job_1", b'{"type":"dispatch"}')
OK = Response(202, {}, b"{}")
GONE = SendFailed("the connection was refused")


def test_a_post_is_signed_over_its_bytes(delivery, sender, manual_clock):
    """A POST carries its id, the time, a signature over both and the body, and its type."""
    sender.answers = [OK]
    assert delivery.send(POST) is OK
    request = sender.requests[0]
    assert (request.method, request.url) == ("POST", "https://backend.test/base/dispatch")
    assert request.body == POST.body
    assert request.headers["webhook-id"] == "job_1"
    assert request.headers["webhook-timestamp"] == "1700000000"
    assert request.headers["content-type"] == "application/json"
    Signer(SECRET).verify(request.headers, POST.body, manual_clock.now)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_request_without_body_signs_method_and_path(delivery, sender, manual_clock, method):
    """A GET or DELETE signs method and path relative to the mount, and has no body."""
    sender.answers = [OK]
    delivery.send(Call.without_body(method, "/jobs/abc"))
    request = sender.requests[0]
    assert (request.url, request.body) == ("https://backend.test/base/jobs/abc", b"")
    assert "content-type" not in request.headers
    Signer(SECRET).verify(request.headers, f"{method} /jobs/abc".encode(), manual_clock.now)


def test_each_call_without_body_has_an_id_of_its_own():
    """The ``webhook-id`` of a GET is fresh each time."""
    assert Call.without_body("GET", "/ping").id != Call.without_body("GET", "/ping").id


def test_every_try_is_signed_anew(delivery, sender, manual_clock):
    """A retry has the same id and bytes, with a timestamp and signature of its own."""
    sender.answers = [GONE, GONE, OK]
    sender.takes = 1.0
    delivery.send(POST)
    first, second, third = sender.requests
    assert first.body == second.body == third.body
    assert {r.headers["webhook-id"] for r in sender.requests} == {"job_1"}
    stamps = [int(r.headers["webhook-timestamp"]) for r in sender.requests]
    assert stamps == sorted(set(stamps))
    for request in sender.requests:
        Signer(SECRET).verify(request.headers, POST.body, manual_clock.now)


@pytest.mark.parametrize("status", sorted(RETRYABLE))
def test_passing_refusals_are_tried_again(delivery, sender, status):
    """408, 425, 429, 500, 502, 503 and 504 are tried again until an answer is final."""
    sender.answers = [Response(status, {}, b""), Response(status, {}, b""), OK]
    assert delivery.send(POST) is OK
    assert len(sender.requests) == 3


@pytest.mark.parametrize(
    "status", [200, 204, 301, 302, 303, 307, 308, 400, 401, 403, 404, 405, 409, 411, 413, 422, 501]
)
def test_other_answers_are_final(delivery, sender, manual_clock, status):
    """Redirects and other refusals are handed back after one try."""
    sender.answers = [Response(status, {"retry-after": "0"}, b""), OK]
    assert delivery.send(POST).status == status
    assert len(sender.requests) == 1
    assert manual_clock.slept == []


def test_tls_failures_are_final(delivery, sender):
    """What the sender calls not retryable is raised at once."""
    failed = SendFailed("the certificate is not trusted", "tls-failed", retryable=False)
    sender.answers = [failed, OK]
    with pytest.raises(SendFailed, match="the certificate is not trusted") as caught:
        delivery.send(POST)
    assert (caught.value.code, caught.value.retryable) == ("tls-failed", False)
    assert caught.value.__cause__ is failed
    assert len(sender.requests) == 1


def test_what_says_it_all_is_raised_as_it_is(delivery, sender):
    """Where there is nothing to add, the sender's own error is raised."""
    refused = SendFailed("nothing was sent: the url has a blank", "rejected", retryable=False)
    sender.answers = [refused, OK]
    with pytest.raises(SendFailed) as caught:
        delivery.send(POST)
    assert caught.value is refused


def test_there_are_five_tries(delivery, sender, manual_clock):
    """A backend that cannot be reached is tried five times, with pauses that double."""
    sender.answers = [SendFailed("the connection was refused", "unreachable")]
    with pytest.raises(SendFailed, match=r"refused \(tried 5 times\)") as caught:
        delivery.send(POST)
    assert len(sender.requests) == 5
    assert manual_clock.slept == [0.5, 1.0, 2.0, 4.0]
    assert (caught.value.code, caught.value.retryable) == ("unreachable", True)


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        ("unreachable", "check that the backend runs and that its URL is right"),
        ("timeout", "more seconds with DISPATCHER_TIMEOUT"),
        ("tls-failed", "certificate, that this machine trusts who issued it, and that the port"),
        ("bad-answer", "the backend's URL is the one where its receiver is mounted"),
    ],
)
def test_a_failure_says_what_to_do(delivery, sender, code, advice):
    """What went wrong comes with what to check, and that the id makes another send safe."""
    sender.answers = [SendFailed("it went wrong", code, retryable=False)]
    with pytest.raises(SendFailed, match=rf"^it went wrong: .*{advice}") as caught:
        delivery.send(POST)
    assert str(caught.value).endswith(", then send it again with the same id")
    assert (caught.value.code, caught.value.retryable) == (code, False)
    with pytest.raises(SendFailed, match=advice) as caught:
        delivery.send(Call.without_body("GET", "/jobs/abc"))
    assert "send it again" not in str(caught.value)


def test_the_last_refusal_is_handed_back(delivery, sender):
    """After the last try its answer is the result, whatever its status."""
    sender.answers = [Response(503, {}, b"last")]
    assert delivery.send(POST).status == 503
    assert len(sender.requests) == 5


def test_pauses_have_full_jitter(sender, manual_clock):
    """A pause is drawn between nothing and the bound."""
    drawn = []

    def uniform(low: float, high: float) -> float:
        drawn.append((low, high))
        return low

    clock = Clock(
        now=lambda: 1_700_000_000.0,
        monotonic=lambda: manual_clock.elapsed,
        sleep=manual_clock.sleep,
        uniform=uniform,
    )
    sender.answers = [GONE]
    delivery = Delivery(
        "https://b.test", Signer(SECRET), sender, timeout=5, deadline=15, clock=clock
    )
    with pytest.raises(SendFailed):
        delivery.send(POST)
    assert drawn == [(0.0, 0.5), (0.0, 1.0), (0.0, 2.0), (0.0, 4.0)]
    assert manual_clock.slept == [0.0] * 4


def test_the_tries_end_with_the_deadline(delivery, sender, manual_clock):
    """No try begins after the deadline, and none may last longer than what is left of it."""
    sender.answers = [GONE]
    sender.takes = 5.0
    with pytest.raises(SendFailed, match="tried 3 times"):
        delivery.send(POST)
    assert sender.timeouts == [5.0, 5.0, pytest.approx(3.5)]


def test_a_call_may_have_less_time(delivery, sender):
    """``within`` shortens the deadline, for a single try too, and never lengthens it."""
    sender.answers = [OK]
    delivery.send(POST, within=0.75)
    delivery.send(POST, within=99.0)
    assert sender.timeouts == [0.75, 5.0]


def test_retry_after_goes_before_a_shorter_pause(delivery, sender, manual_clock):
    """A pause is the longer of jitter and ``Retry-After``."""
    sender.answers = [Response(503, {"retry-after": "3"}, b""), OK]
    delivery.send(POST)
    assert manual_clock.slept == [3.0]


def test_jitter_goes_before_a_shorter_retry_after(delivery, sender, manual_clock):
    """``Retry-After: 0`` does not take the pause away."""
    sender.answers = [Response(429, {"retry-after": "0"}, b""), OK]
    delivery.send(POST)
    assert manual_clock.slept == [0.5]


def test_retry_after_may_be_a_date(delivery, sender, manual_clock):
    """A date in ``Retry-After`` is counted from this machine's clock."""
    date = formatdate(1_700_000_006, usegmt=True)
    sender.answers = [Response(503, {"retry-after": date}, b""), OK]
    delivery.send(POST)
    assert manual_clock.slept == [pytest.approx(5.75)]


def test_retry_after_beyond_the_deadline_ends_at_once(delivery, sender, manual_clock):
    """Where the backend wants more time than there is, the call ends without waiting."""
    sender.answers = [Response(503, {"retry-after": "16"}, b""), OK]
    assert delivery.send(POST).status == 503
    assert (len(sender.requests), manual_clock.slept) == (1, [])


@pytest.mark.parametrize(("takes", "tries"), [(0.875, 2), (0.9375, 1)])
def test_a_try_without_time_hides_no_answer(delivery, sender, manual_clock, takes, tries):
    """Where a pause would leave less than 0.1 s, the answer in hand is the last one."""
    sender.answers = [Response(429, {"retry-after": "14"}, b"in hand"), Response(429, {}, b"late")]
    sender.takes = takes
    assert delivery.send(POST).body == (b"in hand" if tries == 1 else b"late")
    assert len(sender.requests) == tries
    assert manual_clock.slept == [14.0] * (tries - 1)


@pytest.mark.parametrize("oversleeps", [14.3, 14.45, 14.5, 99.0])
def test_a_pause_that_takes_too_long_is_the_end(sender, manual_clock, oversleeps):
    """A machine that wakes up late begins no try without time for it."""
    clock = replace(
        manual_clock.clock(), sleep=lambda seconds: manual_clock.sleep(seconds + oversleeps)
    )
    delivery = Delivery(URL, Signer(SECRET), sender, timeout=5.0, deadline=15.0, clock=clock)
    sender.answers = [Response(503, {}, b"in hand"), OK]
    tries = 2 if oversleeps < 14.4 else 1
    assert delivery.send(POST).status == (202 if tries == 2 else 503)
    assert len(sender.timeouts) == tries
    assert min(sender.timeouts) >= 0.1


def test_the_first_try_is_made_however_little_time_there_is(delivery, sender):
    """What a sender is given is more than nothing."""
    sender.answers = [OK]
    assert delivery.send(POST, within=1e-9) is OK
    assert sender.timeouts == [1e-9]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        (" 120 ", 120.0),
        ("Wed, 15 Nov 2023 09:00:00 GMT", 36_400.0 + 1_600.0),
        ("Tue, 14 Nov 2023 09:00:00 -0000", 0.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0.0),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        ("9" * 30, None),
        ("Wed, 15 Nov 2023 09:00:00 +99999999999", None),
    ],
)
def test_retry_after_is_read_or_ignored(text, seconds):
    """``Retry-After`` is seconds or a date (RFC 9110); anything else counts as absent."""
    now = datetime(2023, 11, 14, 22, 26, 40, tzinfo=UTC).timestamp()
    assert retry_after({"retry-after": text}, now) == seconds


def test_any_retry_after_is_read_without_a_crash():
    """Whatever a date is broken into, there is a number or nothing."""
    chance = random.Random(7)
    date = format_datetime(datetime(2023, 11, 14, tzinfo=timezone(timedelta(hours=-7))))
    for _ in range(3000):
        start, end = sorted(chance.randrange(len(date)) for _ in range(2))
        text = date[:start] + chance.choice(["", "999999999", "é", "\0", ":"]) + date[end:]
        found = retry_after({"retry-after": text}, 0.0)
        assert found is None or found >= 0


def test_a_sender_that_breaks_fails_the_call(delivery, sender):
    """An exception that no sender should raise becomes a failure that names it."""
    sender.answers = [RuntimeError("bug")]
    with pytest.raises(SendFailed, match="the sender broke: RuntimeError: bug") as caught:
        delivery.send(POST)
    assert (caught.value.code, caught.value.retryable) == ("rejected", False)
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert len(sender.requests) == 1


def test_the_log_says_that_the_sender_broke(dispatcher, sender, caplog):
    """The line has the kind of the exception, and not its text, which could hold anything."""
    sender.answers = [RuntimeError("bug in v1,c2VjcmV0")]
    assert dispatcher.dispatch("greet", id="mine").failed
    [record] = caplog.records
    assert record.getMessage() == "job mine (greet) not dispatched: rejected (RuntimeError)"


def test_an_error_of_our_own_passes(delivery, sender):
    """A sender's configuration error stays what it is."""
    sender.answers = [PluginNotFound("no requests", "requests", ())]
    with pytest.raises(PluginNotFound):
        delivery.send(POST)
