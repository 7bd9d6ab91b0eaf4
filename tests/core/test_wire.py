import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher_core import Job, JobError, JobStatus, Progress, RequestError
from dispatcher_core.jsontext import MAX_INTEGER
from dispatcher_core.status import STATES
from dispatcher_core.wire import (
    decode_dispatch,
    decode_status,
    encode_dispatch,
    encode_status,
    format_time,
    job_fingerprint,
    parse_time,
)

NOW = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
PARENT = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"

NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,127}", fullmatch=True)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-MAX_INTEGER, MAX_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
TIMES = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)).map(
    lambda time: time.replace(microsecond=time.microsecond // 1000 * 1000)
)
MAYBE_TIMES = st.none() | TIMES
COUNTS = st.integers(0, 10**6)
STATUSES = st.builds(
    JobStatus,
    id=st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}", fullmatch=True),
    job=NAMES,
    queue=NAMES,
    state=st.sampled_from(sorted(STATES)),
    attempt=COUNTS,
    progress=st.none() | st.builds(Progress, COUNTS, COUNTS),
    result=JSON,
    error=st.none() | st.builds(JobError, TEXT, TEXT, TEXT),
    batch_id=st.none() | NAMES,
    cancel_requested=st.booleans(),
    created_at=TIMES,
    available_at=MAYBE_TIMES,
    started_at=MAYBE_TIMES,
    finished_at=MAYBE_TIMES,
)


def body(**members: object) -> bytes:
    """A dispatch with these members besides the required ones; None of them is left out."""
    return json.dumps({"type": "dispatch", "job": "greet", **members}).encode()


def refused(data: bytes) -> RequestError:
    """The error that a body is refused with."""
    with pytest.raises(RequestError) as caught:
        decode_dispatch("job_1", data)
    return caught.value


@given(
    name=NAMES,
    payload=st.dictionaries(TEXT, JSON, max_size=4),
    queue=NAMES,
    own_queue=st.none() | NAMES,
    delay=st.none() | st.floats(0, 366 * 86400) | st.integers(0, 366 * 86400),
    priority=st.integers(-100, 100),
)
def test_a_job_survives_the_wire(name, payload, queue, own_queue, delay, priority):
    """What is encoded is decoded as it was, with the defaults filled in."""
    sent = Job(name, payload, own_queue, delay, priority)
    got = decode_dispatch(sent.id, encode_dispatch(sent, queue, NOW))
    assert (got.id, got.job, got.payload) == (sent.id, name, payload)
    assert (got.queue, got.delay, got.priority) == (own_queue or queue, delay or 0, priority)
    assert got.fingerprint == job_fingerprint(name, payload, got.queue)


@given(st.binary(max_size=80))
def test_any_body_is_a_job_or_an_error(data):
    """Whatever the bytes are, they are refused with an error of ours."""
    assert refused(data).code in ("malformed", "invalid-request")


@given(
    st.dictionaries(
        st.sampled_from(["type", "job", "payload", "queue", "delay", "priority", "trace", "x"]),
        JSON | st.sampled_from(["dispatch", "greet", {}, 0]),
    )
)
def test_any_object_is_a_job_or_an_error(members):
    """Whatever the members are, there is a job or an error of ours."""
    try:
        job = decode_dispatch("job_1", json.dumps(members).encode())
    except RequestError as error:
        assert error.code in ("malformed", "invalid-request")
    else:
        assert (members["type"], members["job"]) == ("dispatch", job.job)


def test_type_and_job_are_enough():
    """All other members have defaults."""
    got = decode_dispatch("job_1", b'{"type":"dispatch","job":"greet"}')
    assert (got.payload, got.queue, got.delay, got.priority, got.trace) == (
        {},
        "default",
        0.0,
        0,
        None,
    )


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "not JSON"),
        (b"GET /jobs/abc", "not JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b'{"type":"dispatch","type":"dispatch","job":"a"}', "same key twice"),
        (b'{"type":"dispatch","job":"a","delay":NaN}', "NaN"),
        (b'{"type":"dispatch","job":"a","delay":1e999}', "range"),
        (b'{"type":"dispatch","job":"a","priority":99999999999999999999999}', "beyond"),
        (b'{"type":"dispatch","job":"a","payload":{"a":"\\ud800"}}', "surrogate"),
        (
            b'{"type":"dispatch","job":"a","payload":{"a":' + b"[" * 63 + b"]" * 63 + b"}}",
            "deeper",
        ),
    ],
)
def test_what_is_no_json_is_malformed(data, problem):
    """Broken text is told apart from wrong content."""
    error = refused(data)
    assert error.code == "malformed"
    assert problem in str(error)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"[]", "JSON object"),
        (b'"dispatch"', "JSON object"),
        (b'{"job":"greet"}', '"type"'),
        (body(type="dispatch.batch"), '"type"'),
        (body(type="Dispatch"), '"type"'),
        (body(type=["dispatch"]), '"type"'),
        (b'{"type":"dispatch"}', '"job"'),
        (body(job=None), '"job"'),
        (body(job=""), '"job"'),
        (body(job="a b"), '"job"'),
        (body(job="os.system\n"), '"job"'),
        (body(job="x" * 129), '"job"'),
        (body(payload=None), '"payload"'),
        (body(payload=[]), '"payload"'),
        (body(payload="{}"), '"payload"'),
        (body(queue=None), '"queue"'),
        (body(queue="../x"), '"queue"'),
        (body(queue=7), '"queue"'),
        (body(delay=-1), '"delay"'),
        (body(delay=None), '"delay"'),
        (body(delay=True), '"delay"'),
        (body(delay="5"), '"delay"'),
        (body(delay=366 * 86400 + 1), '"delay"'),
        (body(priority=101), '"priority"'),
        (body(priority=-101), '"priority"'),
        (body(priority=1.0), '"priority"'),
        (body(priority=True), '"priority"'),
        (body(priority=None), '"priority"'),
        (body(id="other"), "unknown members: 'id'"),
        (body(Queue="a", delais=1), "unknown members: 'Queue', 'delais'"),
        (body(**{"\n\x1b[2J": 1}), r"unknown members: '\n\x1b[2J'"),
    ],
)
def test_what_does_not_fit_is_an_invalid_request(data, problem):
    """A member that is wrong, missing or unknown is named."""
    error = refused(data)
    assert error.code == "invalid-request"
    assert problem in str(error)


@pytest.mark.parametrize(
    ("trace", "kept"),
    [
        ({"traceparent": PARENT}, {"traceparent": PARENT}),
        (
            {"traceparent": PARENT, "tracestate": "a=1"},
            {"traceparent": PARENT, "tracestate": "a=1"},
        ),
        ({"traceparent": PARENT, "tracestate": "x" * 513}, {"traceparent": PARENT}),
        ({"traceparent": PARENT, "tracestate": 7, "more": 1}, {"traceparent": PARENT}),
        ({"traceparent": PARENT.upper()}, None),
        ({"traceparent": "ff" + PARENT[2:]}, None),
        ({"traceparent": PARENT + "\n"}, None),
        ({"traceparent": 7}, None),
        ({"tracestate": "a=1"}, None),
        ({}, None),
        ("00", None),
        ([], None),
        (None, None),
    ],
)
def test_an_invalid_trace_is_dropped(trace, kept):
    """A trace context is kept where it is valid, and never a reason to refuse."""
    assert decode_dispatch("job_1", body(trace=trace)).trace == kept


def test_a_trace_survives_the_wire():
    """A trace context given when encoding arrives."""
    data = encode_dispatch(Job("greet"), "default", NOW, {"traceparent": PARENT})
    assert decode_dispatch("job_1", data).trace == {"traceparent": PARENT}


def test_the_fingerprint_is_as_specified():
    """SHA-256 of the canonical JSON of job, payload and queue, as any language can make it."""
    canonical = r'["greet",{"a":1,"b":"\u00e9"},"mail"]'
    expected = hashlib.sha256(canonical.encode()).digest()
    assert job_fingerprint("greet", {"b": "é", "a": 1}, "mail") == expected


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"delay": 5}, True),
        ({"priority": 5}, True),
        ({"trace": {"traceparent": PARENT}}, True),
        ({"queue": "default"}, True),
        ({"payload": {"b": 2, "a": 1}}, True),
        ({"payload": {"a": 1}}, False),
        ({"payload": {"a": 1, "b": 2.0}}, False),
        ({"queue": "other"}, False),
        ({"job": "other"}, False),
    ],
)
def test_the_fingerprint_tells_jobs_apart(change, same):
    """Job, payload and queue make a job; delay, priority, trace and order of keys do not."""
    first = decode_dispatch("job_1", body(payload={"a": 1, "b": 2}))
    second = decode_dispatch("job_1", body(**{"payload": {"a": 1, "b": 2}, **change}))
    assert (first.fingerprint == second.fingerprint) is same


@given(STATUSES)
def test_a_status_survives_the_wire(status):
    """What is encoded, written as JSON and decoded is the same status."""
    assert decode_status(json.loads(json.dumps(encode_status(status)))) == status


def test_a_status_has_the_members_of_the_wire_format():
    """Members and their forms are those that other programs rely on."""
    status = JobStatus(
        id="a",
        job="j",
        queue="q",
        state="failed",
        attempt=2,
        progress=Progress(3, 20),
        error=JobError("exception", "ValueError", "no"),
        created_at=NOW,
        finished_at=NOW + timedelta(milliseconds=5),
    )
    assert encode_status(status) == {
        "id": "a",
        "job": "j",
        "queue": "q",
        "state": "failed",
        "attempt": 2,
        "progress": {"done": 3, "total": 20},
        "result": None,
        "error": {"code": "exception", "type": "ValueError", "message": "no"},
        "batch_id": None,
        "cancel_requested": False,
        "created_at": "2024-05-06T07:08:09.000Z",
        "available_at": None,
        "started_at": None,
        "finished_at": "2024-05-06T07:08:09.005Z",
    }


def test_unknown_members_of_an_answer_are_ignored():
    """A later version may say more."""
    status = JobStatus(id="a", job="j", queue="q", state="queued", created_at=NOW)
    assert decode_status({**encode_status(status), "mood": "good"}) == status


@given(
    st.dictionaries(
        st.sampled_from(
            [*encode_status(JobStatus(id="a", job="j", queue="q", state="queued", created_at=NOW))]
        ),
        JSON,
    )
)
def test_any_answer_is_a_status_or_an_error(change):
    """Whatever an answer says, there is a status or a ``ValueError``."""
    status = JobStatus(id="a", job="j", queue="q", state="queued", created_at=NOW)
    try:
        decoded = decode_status({**encode_status(status), **change})
    except ValueError:
        return
    assert decoded.state in STATES


@pytest.mark.parametrize("text", ["", "soon", "2024-05-06T07:08:09", "0001-01-01T00:00:00+23:00"])
def test_what_is_no_time_is_refused(text):
    """A time has a date, a time of day and a zone."""
    with pytest.raises(ValueError):
        parse_time(text)


def test_times_are_utc_with_milliseconds():
    """Any zone is converted, and microseconds are cut off."""
    time = datetime(2024, 1, 2, 3, 4, 5, 678_999, tzinfo=timezone(timedelta(hours=2)))
    assert format_time(time) == "2024-01-02T01:04:05.678Z"
    assert parse_time("2024-01-02T03:04:05.678+02:00") == datetime(
        2024, 1, 2, 1, 4, 5, 678_000, tzinfo=UTC
    )
    assert (format_time(None), parse_time(None)) == (None, None)


@pytest.mark.parametrize(
    ("done", "total", "percent"),
    [(0, 0, 0), (5, 0, 0), (1, 3, 33), (2, 3, 66), (3, 3, 100), (9, 3, 100), (199, 200, 99)],
)
def test_percent_is_rounded_down(done, total, percent):
    """100 % means done; no total means nothing is known."""
    assert Progress(done, total).percent == percent
