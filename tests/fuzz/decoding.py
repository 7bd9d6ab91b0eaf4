"""Any bytes in the place of a message are read as what they say, or refused by a documented error.

A body is taken for a job, for a batch, and, being JSON, for a backend's answer.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from dispatcher_core.batch_wire import (
    BatchMessage,
    decode_batch,
    decode_batch_status,
    encode_batch,
    encode_batch_status,
)
from dispatcher_core.errors import InvalidJob, RequestError
from dispatcher_core.jobs import Job
from dispatcher_core.jsontext import dump, load
from dispatcher_core.status import BatchStatus, JobError, JobStatus, Progress
from dispatcher_core.wire import (
    JobMessage,
    decode_dispatch,
    decode_status,
    encode_dispatch,
    encode_status,
)

CODES = ("malformed", "invalid-request", "too-large")
DEEPEST = 64
LARGEST = 2**63 - 1
ID = "0190fa31-8c2f-7a1e-b111-5a1d5f1c0d01"
NOW = datetime(2024, 5, 6, 7, 8, 9, 123000, tzinfo=UTC)
TRACE = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "vendor=1"}

_MEMBERS = "type job payload queue delay priority trace id jobs then catch finally should_batch"
_STATUS = (
    "state attempt progress result error created_at total pending succeeded failed failed_ids"
)
WORDS: tuple[bytes, ...] = (
    *(f'"{name}":'.encode() for name in f"{_MEMBERS} allow_failures {_STATUS}".split()),
    *(b'"dispatch"', b'"dispatch.batch"', b'"traceparent":', b'"tracestate":', b'"cancelled"'),
    *(b"null", b"true", b"NaN", b"Infinity", b"-0.0", b"1e308", b"1e999", b"\\ud800", b"\\u0000"),
    *(b"9223372036854775807", b"-9223372036854775808", b"[" * 16, b'{"a":' * 16, b"}" * 16),
)


def seeds() -> Iterator[bytes]:
    """Valid messages of each kind."""
    payload = {"user": 7, "tags": ["a", "ü", None], "deep": {"x": [-1.5, True, {}]}}
    plain = Job("send-mail", id="job-1")
    full = Job("shop.jobs.Report", payload, "mails", delay=2.5, priority=-9, id="job-2")
    yield encode_dispatch(plain, "default", NOW)
    yield encode_dispatch(full, "default", NOW, TRACE)
    yield encode_batch([plain, full], "default", NOW)
    yield encode_batch([full], "mails", NOW, should_batch=False)
    callbacks = {name: Job(name, payload, id=name) for name in ("then", "catch", "finally_")}
    yield encode_batch([plain], "default", NOW, allow_failures=True, **callbacks)
    for status in _statuses():
        yield dump(encode_status(status)).encode()
    for batch in _batch_statuses():
        yield dump(encode_batch_status(batch)).encode()


def check(data: bytes) -> None:
    """Read the bytes in every way.

    Raises:
        AssertionError: they were read as something else than they say.
    """
    for decode, compare in ((decode_dispatch, _check_job), (decode_batch, _check_batch)):
        try:
            message = decode(ID, data)
        except RequestError as error:
            _check_refusal(error)
        else:
            compare(message, data)
    _check_answer(data)


def _check_refusal(error: RequestError) -> None:
    assert error.code in CODES, error.code
    assert type(error) is RequestError
    str(error).encode("utf-8")


def _check_job(message: JobMessage, data: bytes) -> None:
    said = json.loads(data)
    assert said["type"] == "dispatch"
    _check_item(message, said, "default")
    _check_trace(message.trace, said.get("trace"))
    if (job := _job(message)) is not None:
        again = encode_dispatch(job, "default", NOW, message.trace)
        assert message == decode_dispatch(ID, again)


def _check_batch(message: BatchMessage, data: bytes) -> None:
    said = json.loads(data)
    assert said["type"] == "dispatch.batch"
    queue = said.get("queue", "default")
    for item, text in zip(message.jobs, said["jobs"], strict=True):
        _check_item(item, text, queue)
    for name, item in message.callbacks.items():
        _check_item(item, said[name], queue)
    for item in (*message.jobs, *message.callbacks.values()):
        _check_trace(item.trace, said.get("trace"))
    given = [said.get(name) for name in ("then", "catch", "finally")]
    flags = [said.get("should_batch", True), said.get("allow_failures", False)]
    items = [item and _triple(item, queue) for item in (*given, *said["jobs"])]
    assert message.fingerprint == _sha256(["batch", *flags, *items[:3], items[3:]])
    jobs = [_job(item) for item in (*message.jobs, *message.callbacks.values())]
    if all(jobs):
        assert _untraced(message) == decode_batch(ID, _encoded(message, jobs))


def _check_item(message: JobMessage, said: dict, queue: str) -> None:
    """A job says what the JSON says, and that is within the limits."""
    triple = _triple(said, queue)
    assert [message.job, message.payload, message.queue] == triple
    assert message.fingerprint == _sha256(triple)
    assert message.delay == said.get("delay", 0)
    assert message.priority == said.get("priority", 0)
    assert 0 <= message.delay <= 366 * 86400
    assert -100 <= message.priority <= 100
    _check_value(message.payload, 2)


def _triple(said: dict, queue: str) -> list[object]:
    own = said.get("queue")
    return [said["job"], said.get("payload", {}), queue if own is None else own]


def _sha256(value: object) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).digest()


def _check_value(value: object, depth: int) -> None:
    if isinstance(value, dict | list):
        assert depth <= DEEPEST
        for inner in value.values() if isinstance(value, dict) else value:
            _check_value(inner, depth + 1)
        return
    assert not isinstance(value, int) or abs(value) <= LARGEST
    assert value == value, "NaN"
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")


def _job(message: JobMessage) -> Job | None:
    """The job as a sender has it, None where it keeps to a lower limit than the wire.

    A sender's payload must also fit into a batch, where it is two levels deeper.
    """
    parts = (message.job, message.payload, message.queue, message.delay, message.priority)
    try:
        return Job(*parts, message.id)
    except InvalidJob as error:
        assert "nested deeper" in str(error), error
        return None


def _encoded(message: BatchMessage, jobs: Sequence[Job]) -> bytes:
    """The batch of these jobs, and of the callbacks after them, as a sender would send it."""
    items = len(message.jobs)
    callbacks = dict(zip(message.callbacks, jobs[items:], strict=True))
    return encode_batch(
        jobs[:items],
        "default",
        NOW,
        should_batch=message.should_batch,
        allow_failures=message.allow_failures,
        then=callbacks.get("then"),
        catch=callbacks.get("catch"),
        finally_=callbacks.get("finally"),
    )


def _untraced(message: BatchMessage) -> BatchMessage:
    """The batch without a trace, as a sender's batch is."""
    jobs = tuple(replace(item, trace=None) for item in message.jobs)
    then, catch, finally_ = (
        item and replace(item, trace=None)
        for item in (message.then, message.catch, message.finally_)
    )
    return replace(message, jobs=jobs, then=then, catch=catch, finally_=finally_)


def _check_trace(trace: dict | None, said: object) -> None:
    """A trace is what was sent, or nothing."""
    if trace is not None:
        assert isinstance(said, dict)
        assert trace.items() <= said.items()
        assert re.fullmatch(
            r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", said["traceparent"]
        )
        assert len(trace.get("tracestate", "")) <= 512


def _check_answer(data: bytes) -> None:
    try:
        answer = load(data)
    except ValueError:
        return
    if not isinstance(answer, Mapping):
        return
    try:
        said = encode_status(decode_status(answer))
    except ValueError:
        pass
    else:
        assert encode_status(decode_status(said)) == said
    try:
        said = encode_batch_status(decode_batch_status(answer))
    except ValueError:
        pass
    else:
        assert encode_batch_status(decode_batch_status(said)) == said


def _statuses() -> Iterator[JobStatus]:
    unknown = {"progress": None, "result": None, "error": None, "batch_id": None}
    times = dict.fromkeys(("available_at", "started_at", "finished_at"))
    common = {"id": "job-1", "job": "send-mail", "queue": "default", "created_at": NOW}
    waiting = {"state": "queued", "attempt": 0, "cancel_requested": False}
    yield JobStatus(**common, **waiting, **unknown, **times)
    ended = {
        "state": "failed",
        "attempt": 3,
        "progress": Progress(3, 20),
        "result": [1, {"a": "ü"}],
        "error": JobError("exception", "ValueError", "no"),
        "batch_id": "batch-1",
        "cancel_requested": True,
    }
    yield JobStatus(**common, **ended, **dict.fromkeys(times, NOW))


def _batch_statuses() -> Iterator[BatchStatus]:
    counts = {"total": 5, "pending": 0, "succeeded": 3, "failed": 1, "cancelled": 1}
    callbacks = dict.fromkeys(("then_id", "catch_id", "finally_id"), "job-9")
    yield BatchStatus(
        id="batch-1",
        state="failed",
        **counts,
        failed_ids=("job-3",),
        **callbacks,
        created_at=NOW,
        finished_at=NOW,
    )
