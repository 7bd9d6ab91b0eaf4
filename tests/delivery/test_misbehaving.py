"""Dispatching through a network, and to servers, that do what they should not."""

import json
import logging
import socket
import time
import tracemalloc
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial

import pytest

from dispatcher_core.delivery import Clock

MIB, GIB = 2**20, 2**30
NOTHING = bytes(64 * 1024)
SAFE = "then send it again with the same id"
AGAIN = "try again later (a dispatch with the same id stays one job)"
PROXY = "its server says so, or a proxy before it"


def page(status, *fields, body="<html><title>Welcome</title></html>"):
    """An answer that does not come from a receiver."""
    lines = [f"HTTP/1.1 {status} As It Is", "Content-Type: text/html", *fields]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "Connection: close", "", body])


def problem(status, code, *fields):
    """An answer in which a receiver refuses."""
    answer = page(status, *fields, body=json.dumps({"status": status, "code": code}))
    return answer.replace("text/html", "application/problem+json")


# What becomes of a connection


def good(wire):
    """The receiver's answer comes back."""
    wire.send(wire.committed())


def closes_at_once(wire):
    """Nothing is read, and the connection closed."""


def resets_at_once(wire):
    """Nothing is read, and the connection reset."""
    wire.reset()


def closes_unanswered(wire):
    """The job is queued, and the connection closed."""
    wire.committed()


def resets_unanswered(wire):
    """The job is queued, and the connection reset."""
    wire.committed()
    wire.reset()


def resets_in_header(wire):
    """The job is queued, and the connection reset in the header of the answer."""
    wire.send(wire.committed()[:30])
    wire.reset()


def resets_in_body(wire):
    """The job is queued, and the connection reset in the body of the answer."""
    wire.send(wire.committed()[:-5])
    wire.reset()


def cuts_body_off(wire):
    """The job is queued, and the connection closed in the body of the answer."""
    wire.send(wire.committed()[:-5])


def hangs_at_once(wire):
    """The request is read, and that is all."""
    wire.request()
    wire.hang()


def hangs_unanswered(wire):
    """The job is queued, and that is all."""
    wire.committed()
    wire.hang()


def drips_header(wire):
    """The job is queued, and the header of the answer comes a byte at a time."""
    answer = wire.committed()
    wire.drip(answer[:9] + b"202 " + b"x" * 60_000)


def drips_body(wire):
    """The job is queued, and the body of the answer comes a byte at a time."""
    wire.committed()
    wire.send(page(202, body=" " * 60_000).encode().rstrip())
    wire.drip(b" " * 60_000)


def continues_for_ever(wire):
    """The job is queued, and interim answers come (RFC 9110, section 15.2), no final one."""
    wire.committed()
    wire.flood(b"HTTP/1.1 100 Continue\r\n\r\n", 2 * GIB)


def answers(text, wire):
    """The job is queued, and something else is answered."""
    wire.committed()
    wire.send(text.encode())


def refuses(text, wire):
    """No job is queued."""
    wire.request()
    wire.send(text.encode())


def floods(head, piece, wire):
    """The job is queued, and the answer does not end before 2 GiB of it were sent."""
    wire.committed()
    wire.send(b"HTTP/1.1 202 Accepted\r\n" + head)
    wire.flood(piece, 2 * GIB)


@dataclass(frozen=True)
class Case:
    """How a dispatch ends where every connection is treated like this.

    Attributes:
        script: what becomes of a connection.
        code: of the error.
        words: what its text has in it, ``{place}`` being where it was sent.
        queued: whether the job is queued all the same.
        timeout: seconds for one try.
    """

    script: object
    code: str
    words: tuple[str, ...]
    queued: bool = True
    timeout: float = 5.0


LOST = ("no answer from {place}: ", "(tried 5 times)", "check that the backend runs", SAFE)
LATE = ("no answer from {place} within 0.25 s", "(tried 5 times)", "DISPATCHER_TIMEOUT", SAFE)

PASSING = {
    "closes at once": Case(closes_at_once, "unreachable", LOST, queued=False),
    "resets at once": Case(resets_at_once, "unreachable", LOST, queued=False),
    "closes unanswered": Case(closes_unanswered, "unreachable", LOST),
    "resets unanswered": Case(resets_unanswered, "unreachable", LOST),
    "resets in the header": Case(resets_in_header, "unreachable", LOST),
    "resets in the body": Case(resets_in_body, "unreachable", LOST),
    "cuts the body off": Case(cuts_body_off, "unreachable", LOST),
    "hangs at once": Case(hangs_at_once, "timeout", LATE, queued=False, timeout=0.25),
    "hangs unanswered": Case(hangs_unanswered, "timeout", LATE, timeout=0.25),
    "drips the header": Case(drips_header, "timeout", LATE, timeout=0.25),
    "drips the body": Case(drips_body, "timeout", LATE, timeout=0.25),
    "says 100 Continue for ever": Case(continues_for_ever, "timeout", LATE, timeout=0.25),
    "503 with Retry-After": Case(
        partial(refuses, problem(503, "unavailable", "Retry-After: 0")),
        "unavailable",
        ("answered 503 unavailable", AGAIN),
        queued=False,
    ),
    "500 of the receiver": Case(
        partial(answers, problem(500, "internal")),
        "internal",
        ("answered 500 internal", "its log says how", AGAIN),
    ),
    "500 of something else": Case(
        partial(answers, page(500)), "rejected", ("the backend answered 500", PROXY, AGAIN)
    ),
    "504 of a proxy": Case(
        partial(answers, page(504)), "rejected", ("the backend answered 504", PROXY, AGAIN)
    ),
}

URL = "check that the backend's URL is the one where its receiver is mounted"
TOO_LONG = ("the answer from {place} is longer than 1048576 bytes", URL)
NO_HTTP = ("the answer from {place} is not valid HTTP", URL)
MUCH = b"10000\r\n" + NOTHING + b"\r\n"

FINAL = {
    "200 with HTML": Case(
        partial(answers, page(200)), "bad-answer", ("the backend answered 200, but ", URL)
    ),
    "404 with HTML": Case(
        partial(refuses, page(404)), "rejected", ("the backend answered 404", URL), queued=False
    ),
    "413 of a proxy": Case(
        partial(refuses, page(413)),
        "rejected",
        ("the backend answered 413", "something before it answered", URL),
        queued=False,
    ),
    "another protocol": Case(
        partial(answers, "220 mail.example ESMTP\r\n" * 3), "bad-answer", NO_HTTP
    ),
    "a header without end": Case(partial(floods, b"", b"X-A: " + NOTHING), "bad-answer", NO_HTTP),
    "lines without end": Case(partial(floods, b"", b"X-A: b\r\n" * 8192), "bad-answer", NO_HTTP),
    "2 GiB of nothing": Case(
        partial(floods, b"Content-Length: 2147483648\r\n\r\n", NOTHING), "bad-answer", TOO_LONG
    ),
    "2 GiB in chunks": Case(
        partial(floods, b"Transfer-Encoding: chunked\r\n\r\n", MUCH), "bad-answer", TOO_LONG
    ),
    "2 GiB unannounced": Case(partial(floods, b"\r\n", NOTHING), "bad-answer", TOO_LONG),
}


@pytest.fixture
def sent(network, dispatcher_to):
    """Dispatches a job through a network that treats connections like this.

    Returns the result, the network after its end, and how long it took.
    """

    def send(script, **options):
        between = network(script)
        dispatcher = dispatcher_to(between.url, **options)
        began = time.monotonic()
        result = dispatcher.dispatch("send-mail", {"to": "ann"})
        took = time.monotonic() - began
        between.stop()
        return result, between, took

    return send


def in_turn(*scripts):
    """The first script for the first connection, and so on; the last for all that follow."""
    left = list(scripts)
    return lambda wire: (left.pop(0) if len(left) > 1 else left[0])(wire)


def assert_told(result, words, place, caplog):
    """The failure is told with these words, and in one line of the log that gives nothing away."""
    for word in words:
        assert word.format(place=place) in str(result.error)
    line = f"job {result.id} (send-mail) not dispatched: {result.error.code}"
    assert errors(caplog) == [line]


def errors(caplog):
    """The lines of the log at ERROR and above."""
    levels = (logging.ERROR, logging.CRITICAL)
    return [record.getMessage() for record in caplog.records if record.levelno in levels]


@pytest.mark.parametrize("case", PASSING.values(), ids=PASSING)
def test_what_may_pass_is_tried_five_times(sent, backend, pauses, caplog, case):
    """Where it never gets better there are five tries, all with one id, and at most one job."""
    result, network, took = sent(case.script, timeout=case.timeout)
    assert result.failed
    assert result.error.code == case.code
    assert_told(result, case.words, network.place, caplog)
    assert took < 15.0
    assert len(pauses.taken) == 4
    # A try that may last a moment only can be over before it has connected.
    assert len(network.wires) == 5 or (case.timeout < 1 and len(network.wires) < 5)
    assert network.ids() <= {result.id}
    assert backend.ids() == [result.id] * case.queued


@pytest.mark.parametrize("case", PASSING.values(), ids=PASSING)
def test_what_passes_is_survived(sent, backend, caplog, case):
    """Where it gets better the dispatch succeeds, and there is one job however often it came."""
    result, network, _ = sent(in_turn(case.script, case.script, good), timeout=2 * case.timeout)
    assert (result.ok, result.error, result.state) == (True, None, "queued")
    # A good try can be too late too, and come again.
    assert result.duplicate == case.queued or case.timeout < 1
    assert len(network.wires) == 3 or case.timeout < 1
    assert backend.ids() == [result.id]
    assert errors(caplog) == []


@pytest.mark.parametrize("case", FINAL.values(), ids=FINAL)
def test_what_will_not_pass_is_tried_once(sent, backend, pauses, caplog, case):
    """What another try would meet again ends the dispatch at once; a queued job stays one."""
    result, network, took = sent(case.script)
    assert result.failed
    assert result.error.code == case.code
    assert_told(result, case.words, network.place, caplog)
    assert took < 15.0
    assert (len(network.wires), pauses.taken) == (1, [])
    assert backend.ids() == [result.id] * case.queued


@pytest.mark.parametrize("name", [name for name in FINAL if "2 GiB" in name])
def test_two_gib_of_nothing_are_cut_at_one_mib(sent, name):
    """Of an answer without end no more is read, and kept, than its first MiB."""
    tracemalloc.start()
    try:
        _, network, _ = sent(FINAL[name].script)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * MIB
    # The rest fitted into the buffers of the sockets.
    assert MIB <= network.wires[0].sent < 64 * MIB


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(sent, network, backend, pauses, caplog, status):
    """Where another server is answered, that one sees nothing; the error names it."""
    elsewhere = network(good)
    location = f"{elsewhere.url}/dispatch"
    result, here, _ = sent(partial(refuses, page(status, f"Location: {location}")))
    elsewhere.stop()
    assert (result.error.code, result.error.status) == ("rejected", status)
    assert_told(result, (f"redirects to {location}", "the backend's URL"), here.place, caplog)
    assert (len(here.wires), pauses.taken) == (1, [])
    assert (elsewhere.wires, backend.ids()) == ([], [])


def test_a_refused_connection_is_tried_five_times(dispatcher_to, pauses, caplog):
    """Where nobody listens there are five tries, and the error says so."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))  # nobody else gets it, and nobody listens
        place = f"127.0.0.1:{holder.getsockname()[1]}"
        result = dispatcher_to(f"http://{place}").dispatch("send-mail", {"to": "ann"})
    assert result.error.code == "unreachable"
    assert_told(result, (*LOST, "refused"), place, caplog)
    assert len(pauses.taken) == 4


def test_a_backend_that_starts_late_is_reached(dispatcher_to, backend, pauses, network):
    """Connections that are refused while the backend starts cost tries, not the dispatch."""
    late = network(good, listening=False)
    pauses.during = lambda number: late.listen() if number == 3 else None
    result = dispatcher_to(late.url).dispatch("send-mail", {"to": "ann"})
    late.stop()
    assert (result.ok, result.duplicate, len(pauses.taken)) == (True, False, 3)
    assert (len(late.wires), backend.ids()) == (1, [result.id])


def test_each_way_in_turn_is_survived(sent, backend):
    """Four different misfortunes in a row make neither a failure nor a second job."""
    unavailable = partial(refuses, problem(503, "unavailable", "Retry-After: 0"))
    ways = (resets_at_once, unavailable, cuts_body_off, closes_unanswered, good)
    result, network, _ = sent(in_turn(*ways))
    assert (result.ok, result.duplicate, len(network.wires)) == (True, True, 5)
    assert backend.ids() == [result.id]


def test_what_failed_is_dispatched_again_with_its_id(sent, network, dispatcher_to, backend):
    """A job that was queued unnoticed is found by its id, and not queued again."""
    failed, _, _ = sent(closes_unanswered)
    assert failed.failed
    dispatcher = dispatcher_to(network(good).url)
    again = dispatcher.dispatch("send-mail", {"to": "ann"}, id=failed.id)
    assert (again.ok, again.duplicate, again.id) == (True, True, failed.id)
    assert backend.ids() == [failed.id]


def test_a_kept_connection_may_break_with_a_request_in_it(network, dispatcher_to, backend):
    """A second request that its connection swallows is sent again, and queued once."""

    def keeps(wire):
        """The first request on a connection is answered and the connection kept."""
        wire.send(wire.committed().replace(b"HTTP/1.0", b"HTTP/1.1", 1))
        wire.committed()

    dispatcher = dispatcher_to(network(in_turn(keeps, good)).url)
    first, second = (dispatcher.dispatch("send-mail", {"to": to}) for to in ("ann", "bob"))
    assert (first.ok, first.duplicate) == (True, False)
    assert (second.ok, second.duplicate) == (True, True)
    assert backend.ids() == [first.id, second.id]


# Time


@pytest.mark.parametrize("script", [hangs_unanswered, drips_header, drips_body])
def test_the_deadline_ends_a_try(sent, backend, script):
    """A deadline shorter than a try's timeout ends it: what drips in cannot stretch it."""
    result, network, took = sent(script, timeout=20.0, deadline=0.5)
    assert result.error.code == "timeout"
    assert 0.4 < took < 10.0
    assert len(network.wires) == 1
    assert backend.ids() == [result.id]


def test_no_pause_goes_beyond_the_deadline(sent):
    """Where the longest pauses are drawn (0.5 s, then 1 s), a second has room for two tries."""
    longest = Clock(uniform=lambda low, high: high)
    result, network, _ = sent(closes_at_once, clock=longest, deadline=1.0)
    assert result.error.code == "unreachable"
    assert 1 <= len(network.wires) <= 2


def test_retry_after_is_waited_for(sent, backend, pauses):
    """A backend that asks for a second gets it before the next try."""
    wait = partial(refuses, problem(503, "unavailable", "Retry-After: 1"))
    result, network, took = sent(in_turn(wait, good))
    assert (result.ok, len(network.wires), pauses.taken) == (True, 2, [1.0])
    assert took >= 1.0
    assert backend.ids() == [result.id]


def test_retry_after_may_be_a_date(sent, backend):
    """A backend that names a moment (RFC 9110, section 10.2.3) is left alone until then."""
    due, again = [], []

    def wait(wire):
        due.append(int(time.time() + 1.3))  # a date has whole seconds
        date = formatdate(due[0], usegmt=True)
        refuses(problem(429, "queue-full", f"Retry-After: {date}"), wire)

    def then(wire):
        again.append(time.time())
        good(wire)

    result, _, _ = sent(in_turn(wait, then))
    assert (result.ok, len(due), len(again)) == (True, 1, 1)
    assert due[0] <= again[0]
    assert backend.ids() == [result.id]


@pytest.mark.parametrize(
    "form", [str, lambda seconds: formatdate(time.time() + seconds, usegmt=True)]
)
def test_retry_after_beyond_the_deadline_ends_at_once(sent, backend, pauses, caplog, form):
    """Where the backend asks for more time than there is, nobody waits: the caller is told."""
    wait = partial(refuses, problem(503, "unavailable", f"Retry-After: {form(60)}"))
    result, network, _ = sent(wait)
    assert (result.error.code, result.error.status) == ("unavailable", 503)
    assert result.error.retry_after == pytest.approx(60, abs=30)
    assert_told(result, (AGAIN,), network.place, caplog)
    assert (len(network.wires), pauses.taken, backend.ids()) == (1, [], [])
