import hashlib
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher_core import BatchStatus, InvalidJob, Job, RequestError
from dispatcher_core.batch_wire import (
    MAX_BATCH_JOBS,
    decode_batch,
    decode_batch_status,
    encode_batch,
    encode_batch_status,
    encode_items,
    with_items,
)
from dispatcher_core.jsontext import MAX_INTEGER
from dispatcher_core.status import BATCH_STATES
from dispatcher_core.wire import job_fingerprint

NOW = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
PARENT = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"

NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,127}", fullmatch=True)
IDS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}", fullmatch=True)
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
JOBS = st.builds(
    Job,
    NAMES,
    st.dictionaries(TEXT, JSON, max_size=3),
    st.none() | NAMES,
    st.none() | st.floats(0, 366 * 86400) | st.integers(0, 366 * 86400),
    st.integers(-100, 100),
)
COUNTS = st.integers(0, 10**6)
TIMES = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)).map(
    lambda time: time.replace(microsecond=time.microsecond // 1000 * 1000)
)
STATUSES = st.builds(
    BatchStatus,
    id=IDS,
    state=st.sampled_from(sorted(BATCH_STATES)),
    total=COUNTS,
    pending=COUNTS,
    succeeded=COUNTS,
    failed=COUNTS,
    cancelled=COUNTS,
    failed_ids=st.lists(IDS, max_size=3).map(tuple),
    then_id=st.none() | IDS,
    catch_id=st.none() | IDS,
    finally_id=st.none() | IDS,
    created_at=TIMES,
    finished_at=st.none() | TIMES,
)
STATUS = BatchStatus(
    id="batch",
    state="failed",
    total=4,
    pending=1,
    succeeded=1,
    failed=1,
    cancelled=1,
    failed_ids=("job_2",),
    then_id="then",
    created_at=NOW,
    finished_at=NOW + timedelta(milliseconds=5),
)


def item(**members: object) -> dict[str, object]:
    """A job of a batch with these members besides the required ones."""
    return {"id": "job_1", "job": "greet", **members}


def body(*items: object, **members: object) -> bytes:
    """A batch of these jobs with these members besides the required ones."""
    return json.dumps({"type": "dispatch.batch", "jobs": items, **members}).encode()


def refused(data: bytes, id: str = "batch") -> RequestError:
    """The error that a body is refused with."""
    with pytest.raises(RequestError) as caught:
        decode_batch(id, data)
    return caught.value


def triple(job: Job, queue: str) -> list[object]:
    """What of a job counts for a fingerprint."""
    return [job.name, job.payload, job.queue or queue]


def digest(parts: object) -> bytes:
    """The SHA-256 of the canonical JSON text."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).digest()


@given(
    jobs=st.lists(JOBS, max_size=5),
    queue=NAMES,
    allow_failures=st.booleans(),
    callbacks=st.fixed_dictionaries({}, optional={"then": JOBS, "catch": JOBS, "finally_": JOBS}),
)
def test_a_batch_survives_the_wire(jobs, queue, allow_failures, callbacks):
    """What is encoded is decoded as it was, with the defaults filled in."""
    data = encode_batch(jobs, queue, NOW, allow_failures=allow_failures, **callbacks)
    got = decode_batch("the-batch", data)
    assert (got.id, got.should_batch, got.allow_failures) == ("the-batch", True, allow_failures)
    assert got.ids == tuple(job.id for job in jobs)
    decoded = (*got.jobs, got.then, got.catch, got.finally_)
    sent = (*jobs, *(callbacks.get(name) for name in ("then", "catch", "finally_")))
    assert got.callbacks.keys() == {name.rstrip("_") for name in callbacks}
    for job, message in zip(sent, decoded, strict=True):
        if job is None:
            assert message is None
            continue
        assert (message.id, message.job, message.payload) == (job.id, job.name, job.payload)
        assert (message.queue, message.trace) == (job.queue or queue, None)
        assert (message.delay, message.priority) == (job.delay or 0, job.priority)
        assert message.fingerprint == job_fingerprint(job.name, job.payload, message.queue)


@given(
    jobs=st.lists(JOBS, max_size=3),
    then=st.none() | JOBS,
    allow_failures=st.booleans(),
)
def test_the_fingerprint_is_as_specified(jobs, then, allow_failures):
    """SHA-256 of the canonical JSON of flags, callbacks and items, each job as a triple."""
    data = encode_batch(jobs, "mail", NOW, allow_failures=allow_failures, then=then)
    items = [triple(job, "mail") for job in jobs]
    callback = None if then is None else triple(then, "mail")
    parts = ["batch", True, allow_failures, callback, None, None, items]
    assert decode_batch("the-batch", data).fingerprint == digest(parts)


def test_the_fingerprint_of_a_known_batch():
    """One batch written out, as any language can make it."""
    data = body(item(payload={"b": "é", "a": 1}, queue="mail"), should_batch=False)
    canonical = r'["batch",false,false,null,null,null,[["greet",{"a":1,"b":"\u00e9"},"mail"]]]'
    expected = hashlib.sha256(canonical.encode()).digest()
    assert decode_batch("batch", data).fingerprint == expected


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"jobs": [item(id="other", delay=5, priority=5)]}, True),
        ({"trace": {"traceparent": PARENT}}, True),
        ({"queue": "default"}, True),
        ({"jobs": [item(queue="default", payload={})]}, True),
        ({"should_batch": True, "allow_failures": False, "then": None}, True),
        ({"jobs": [item(), item(id="job_2")]}, False),
        ({"jobs": []}, False),
        ({"jobs": [item(payload={"a": 1})]}, False),
        ({"queue": "mail"}, False),
        ({"should_batch": False}, False),
        ({"allow_failures": True}, False),
        ({"then": item(id="x")}, False),
        ({"catch": item(id="x")}, False),
        ({"finally": item(id="x")}, False),
    ],
)
def test_the_fingerprint_tells_batches_apart(change, same):
    """Flags, callbacks and jobs make a batch; ids, delays, priorities and trace do not."""
    first = decode_batch("batch", body(item()))
    second = decode_batch("batch", body(**{"jobs": [item()], **change}))
    assert (first.fingerprint == second.fingerprint) is same


def test_callbacks_are_told_apart():
    """The same job as then, as catch or as finally makes different batches."""
    prints = {
        decode_batch("batch", body(**{name: item()})).fingerprint
        for name in ("then", "catch", "finally")
    }
    assert len(prints) == 3


def test_type_and_jobs_are_enough():
    """All other members have defaults, those of the jobs too."""
    got = decode_batch("batch", body(item()))
    assert (got.should_batch, got.allow_failures, got.callbacks) == (True, False, {})
    [job] = got.jobs
    assert (job.id, job.job, job.payload, job.queue) == ("job_1", "greet", {}, "default")
    assert (job.delay, job.priority, job.trace) == (0.0, 0, None)


def test_a_job_inherits_queue_and_trace():
    """The batch's queue is for jobs without one; the trace is for all, callbacks too."""
    data = body(
        item(queue=None),
        item(id="job_2", queue="own"),
        queue="mail",
        trace={"traceparent": PARENT},
        **{"finally": item(id="job_3")},
    )
    got = decode_batch("batch", data)
    assert [job.queue for job in (*got.jobs, got.finally_)] == ["mail", "own", "mail"]
    assert all(job.trace == {"traceparent": PARENT} for job in (*got.jobs, got.finally_))


@given(st.binary(max_size=80))
def test_any_body_is_a_batch_or_an_error(data):
    """Whatever the bytes are, they are refused with an error of ours."""
    assert refused(data).code in ("malformed", "invalid-request")


@given(
    st.dictionaries(
        st.sampled_from(["type", "jobs", "should_batch", "queue", "then", "finally", "trace"]),
        JSON
        | st.sampled_from(["dispatch.batch", True, "mail", {"id": "a", "job": "b"}])
        | st.lists(st.sampled_from([{"id": "a", "job": "b"}, {"id": "c", "job": "d"}])),
    )
)
def test_any_object_is_a_batch_or_an_error(members):
    """Whatever the members are, there is a batch or an error of ours."""
    data = json.dumps({"type": "dispatch.batch", "jobs": [], **members}).encode()
    try:
        batch = decode_batch("batch", data)
    except RequestError as error:
        assert error.code in ("malformed", "invalid-request")
    else:
        assert len(batch.jobs) == len(members.get("jobs", []))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "not JSON"),
        (b"\xff", "not UTF-8"),
        (b'{"type":"dispatch.batch","jobs":[{"id":"a","id":"b","job":"c"}]}', "same key twice"),
        (b'{"type":"dispatch.batch","jobs":[{"id":"a","job":"c","delay":NaN}]}', "NaN"),
        (b'{"type":"dispatch.batch","jobs":' + b"[" * 70 + b"]" * 70 + b"}", "deeper"),
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
        (b"[]", "the body must be a JSON object"),
        (b'{"jobs":[]}', '"type" must be "dispatch.batch"'),
        (body(type="dispatch"), '"type" must be "dispatch.batch"'),
        (b'{"type":"dispatch.batch"}', '"jobs" must be a list'),
        (body(jobs=None), '"jobs" must be a list'),
        (body(jobs={}), '"jobs" must be a list'),
        (body(jobs=7), '"jobs" must be a list'),
        (body(should_batch=None), '"should_batch" must be true or false'),
        (body(should_batch=1), '"should_batch" must be true or false'),
        (body(allow_failures="yes"), '"allow_failures" must be true or false'),
        (body(queue=None), '"queue"'),
        (body(queue="a b"), '"queue"'),
        (body(id="batch"), "unknown members: 'id'"),
        (body(finally_=None), "unknown members: 'finally_'"),
        (body("greet"), "jobs[0]: it must be a JSON object"),
        (body(item(), None), "jobs[1]: it must be a JSON object"),
        (body({"job": "greet"}), 'jobs[0]: "id"'),
        (body({"id": "a"}), 'jobs[0]: "job"'),
        (body(item(id="a b")), 'jobs[0]: "id"'),
        (body(item(id="x" * 65)), 'jobs[0]: "id"'),
        (body(item(id=7)), 'jobs[0]: "id"'),
        (body(item(job="a b")), 'jobs[0]: "job"'),
        (body(item(payload=None)), 'jobs[0]: "payload"'),
        (body(item(payload=[])), 'jobs[0]: "payload"'),
        (body(item(queue="../x")), 'jobs[0]: "queue"'),
        (body(item(delay=-1)), 'jobs[0]: "delay"'),
        (body(item(delay=None)), 'jobs[0]: "delay"'),
        (body(item(priority=101)), 'jobs[0]: "priority"'),
        (body(item(trace=None)), "jobs[0]: it has unknown members: 'trace'"),
        (body(item(type="dispatch")), "jobs[0]: it has unknown members: 'type'"),
        (body(then="greet"), "then: it must be a JSON object"),
        (body(catch={}), 'catch: "job"'),
        (body(**{"finally": item(delay="5")}), 'finally: "delay"'),
        (body(item(), item()), "the id 'job_1' is there twice"),
        (body(item(), then=item()), "the id 'job_1' is there twice"),
        (body(then=item(), catch=item()), "the id 'job_1' is there twice"),
        (body(item(id="batch")), "the id 'batch' is there twice"),
        (body(then=item(id="batch")), "the id 'batch' is there twice"),
        (body(should_batch=False, then=item()), "only a batch has callbacks"),
        (body(should_batch=False, **{"finally": item()}), "only a batch has callbacks"),
    ],
)
def test_what_does_not_fit_is_an_invalid_request(data, problem):
    """A member that is wrong, missing or unknown is named, and in which job it is."""
    error = refused(data)
    assert error.code == "invalid-request"
    assert problem in str(error)


def test_too_many_jobs_are_too_large():
    """10,000 jobs are taken, one more is refused with a code of its own."""
    items = [item(id=f"job_{number}") for number in range(MAX_BATCH_JOBS + 1)]
    assert len(decode_batch("batch", body(*items[1:])).jobs) == MAX_BATCH_JOBS
    assert refused(body(*items)).code == "too-large"


def test_items_can_be_encoded_one_by_one():
    """Items added to a body without any make what all at once would have made."""
    jobs = [Job("a", {"text": '"jobs":[]}é'}), Job("b", delay=NOW + timedelta(seconds=5))]
    options = {"allow_failures": True, "then": Job("c", {"text": '"jobs":[]}'})}
    empty = encode_batch([], "mail", NOW, **options)
    items = [encode_items([job], NOW) for job in jobs]
    assert with_items(empty, items) == encode_batch(jobs, "mail", NOW, **options)
    assert with_items(empty, []) == empty


def test_a_batch_is_plain_json():
    """The body is the JSON of the wire format."""
    job, then = Job("a", {"n": 1}, "own", 5, 3), Job("b")
    data = encode_batch([job], "mail", NOW, then=then, should_batch=True)
    assert json.loads(data) == {
        "type": "dispatch.batch",
        "should_batch": True,
        "queue": "mail",
        "allow_failures": False,
        "then": {
            "id": then.id,
            "job": "b",
            "payload": {},
            "queue": None,
            "delay": 0.0,
            "priority": 0,
        },
        "catch": None,
        "finally": None,
        "jobs": [
            {
                "id": job.id,
                "job": "a",
                "payload": {"n": 1},
                "queue": "own",
                "delay": 5.0,
                "priority": 3,
            }
        ],
        "trace": None,
    }


def test_a_delay_of_more_than_a_year_is_refused():
    """A moment that was near when the job was made may be too far when it is sent."""
    with pytest.raises(InvalidJob, match="more than a year"):
        encode_items([Job("a", delay=NOW + timedelta(days=400))], NOW)


@given(STATUSES)
def test_a_status_survives_the_wire(status):
    """What is encoded, written as JSON and decoded is the same status."""
    assert decode_batch_status(json.loads(json.dumps(encode_batch_status(status)))) == status


def test_a_status_has_the_members_of_the_wire_format():
    """Members and their forms are those that other programs rely on."""
    assert encode_batch_status(STATUS) == {
        "id": "batch",
        "state": "failed",
        "total": 4,
        "pending": 1,
        "succeeded": 1,
        "failed": 1,
        "cancelled": 1,
        "progress": {"done": 3, "total": 4},
        "failed_ids": ["job_2"],
        "then_id": "then",
        "catch_id": None,
        "finally_id": None,
        "created_at": "2024-05-06T07:08:09.000Z",
        "finished_at": "2024-05-06T07:08:09.005Z",
    }


def test_unknown_members_of_an_answer_are_ignored():
    """A later version may say more."""
    assert decode_batch_status({**encode_batch_status(STATUS), "mood": "good"}) == STATUS


@given(st.dictionaries(st.sampled_from([*encode_batch_status(STATUS)]), JSON))
def test_any_answer_is_a_status_or_an_error(change):
    """Whatever an answer says, there is a status or a ``ValueError``."""
    try:
        decoded = decode_batch_status({**encode_batch_status(STATUS), **change})
    except ValueError:
        return
    assert decoded.state in BATCH_STATES


@pytest.mark.parametrize(
    "change",
    [
        {"state": "queued"},
        {"state": None},
        {"total": "many"},
        {"pending": None},
        {"created_at": None},
        {"created_at": "soon"},
        {"failed_ids": "job_2"},
        {"failed_ids": None},
    ],
)
def test_what_is_no_status_is_refused(change):
    """A member that is wrong makes it no status."""
    with pytest.raises(ValueError):
        decode_batch_status({**encode_batch_status(STATUS), **change})


@pytest.mark.parametrize("member", ["id", "state", "total", "pending", "failed_ids", "created_at"])
def test_a_status_without_a_member_is_refused(member):
    """So does one that is missing."""
    members = encode_batch_status(STATUS)
    del members[member]
    with pytest.raises(ValueError, match="not the status of a batch"):
        decode_batch_status(members)
