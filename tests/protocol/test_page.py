"""What ``docs/protocol.md`` says is what the code does."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import pytest

from dispatcher_core import Config, Job
from dispatcher_core.answers import RETRYABLE
from dispatcher_core.batch_wire import (
    MAX_BATCH_BODY,
    MAX_BATCH_JOBS,
    BatchMessage,
    decode_batch,
    encode_batch,
    encode_batch_status,
)
from dispatcher_core.delivery import TRIES
from dispatcher_core.errors import RequestError, SignatureError
from dispatcher_core.jobs import MAX_DELAY, MAX_PRIORITY
from dispatcher_core.jsontext import MAX_DEPTH, MAX_INTEGER
from dispatcher_core.keys import MINIMUM_BYTES
from dispatcher_core.names import ID, NAME, is_id, is_name
from dispatcher_core.problems import STATUSES
from dispatcher_core.signing import TOLERANCE, read_headers
from dispatcher_core.status import BATCH_STATES, STATES, BatchStatus, JobStatus
from dispatcher_core.wire import (
    MAX_JOB_BODY,
    VERSION,
    JobMessage,
    decode_dispatch,
    encode_dispatch,
    encode_status,
)
from dispatcher_local_queue.running import MAX_MESSAGE, MAX_RESULT
from dispatcher_wsgi_receiver.routes import Operation, match

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text("utf-8")
TEXT = " ".join(PAGE.split())
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

JOB_STATUS = JobStatus(id="a", job="b", queue="c", state="queued", created_at=NOW)
BATCH_STATUS = BatchStatus(
    id="a", state="running", total=1, pending=1, succeeded=0, failed=0, cancelled=0, created_at=NOW
)

Decoded = Callable[[dict[str, object]], object]


def rows(first_title: str) -> list[list[str]]:
    """The cells of the table whose first column has this title."""
    match = re.search(rf"^\| {re.escape(first_title)} \|.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE, re.M)
    assert match, first_title
    return [line.strip("| ").split(" | ") for line in match[1].splitlines()]


def quoted(cell: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def example(name: str) -> dict[str, object]:
    """The JSON after the comment of this name."""
    match = re.search(rf"<!-- example: {name} -->\n```json\n(.*?)```", PAGE, re.S)
    assert match, name
    return json.loads(match[1])


def members(table: str) -> dict[str, str]:
    """The members that a table of requests names, and their defaults."""
    match = re.search(rf"<!-- members: {table} -->\n.*\n.*\n((?:\|.*\n)+)", PAGE)
    assert match, table
    cells = [line.strip("| ").split(" | ") for line in match[1].splitlines()]
    return {quoted(name)[0]: default.strip("`") for name, default, _ in cells}


def dispatched(message: dict[str, object]) -> JobMessage:
    """A dispatch as a receiver reads it."""
    return decode_dispatch("id", json.dumps(message).encode())


def batched(message: dict[str, object]) -> BatchMessage:
    """The dispatch of a batch as a receiver reads it."""
    return decode_batch("id", json.dumps(message).encode())


def of_one(item: dict[str, object]) -> BatchMessage:
    """The dispatch of a batch of one job as a receiver reads it."""
    return batched({"type": "dispatch.batch", "jobs": [item]})


def longest(accepts: Callable[[int], bool], most: int = 1000) -> int:
    """The greatest of these lengths that is accepted."""
    return max(length for length in range(1, most) if accepts(length))


def signatures_are_read(count: int) -> bool:
    """Whether so many signatures may stand in one header."""
    headers = {"webhook-id": "a", "webhook-timestamp": "1674087231"}
    try:
        read_headers({**headers, "webhook-signature": " ".join(["v1,"] * count)})
    except SignatureError:
        return False
    return True


def tracestate_is_kept(length: int) -> bool:
    """Whether a ``tracestate`` of so many characters is kept."""
    trace = {"traceparent": TRACEPARENT, "tracestate": "x" * length}
    job = decode_dispatch(
        "id", json.dumps({"type": "dispatch", "job": "a", "trace": trace}).encode()
    )
    return job.trace == trace


def test_every_code_is_there_with_its_status():
    """The table of errors is the receiver's."""
    told = {quoted(code)[0]: int(status) for status, code, _ in rows("status")}
    assert told == STATUSES


def test_every_route_is_there():
    """The requests of the page are those that the receiver knows; it tells what each signs."""
    signed = {}
    for request, _, content, _ in rows("request"):
        method, path = quoted(request)[0].replace("{url}", "").replace("{id}", "abc").split(" ")
        signed[match(method, path, "").operation] = (method, content)
    assert signed.keys() == set(get_args(Operation))
    assert signed.pop("health") == ("GET", "not signed")
    assert set(signed.values()) == {("POST", "body"), ("GET", "path"), ("DELETE", "path")}


def test_every_limit_is_there():
    """The table of limits has the numbers of the code."""
    limits = {
        "body of a job": MAX_JOB_BODY,
        "body of a batch": MAX_BATCH_BODY,
        "jobs of a batch": MAX_BATCH_JOBS,
        "nesting of the JSON": MAX_DEPTH,
        "integers": MAX_INTEGER,
        "characters of an id": longest(lambda length: is_id("x" * length)),
        "characters of a name": longest(lambda length: is_name("x" * length)),
        "`delay`": MAX_DELAY,
        "`priority`": MAX_PRIORITY,
        "`tracestate`": longest(tracestate_is_kept),
        "signatures of a request": longest(signatures_are_read),
        "clocks apart": TOLERANCE,
        "`errors` of a problem": 100,
        "`failed_ids`": 100,
        "result of a job": MAX_RESULT,
        "message of an error": MAX_MESSAGE,
    }
    told = {what: int(re.sub(r"\D", "", limit)) for what, limit, _ in rows("what")}
    assert told == limits


def test_the_numbers_in_the_text_are_those_of_the_code():
    """Versions, grammars, statuses that are tried again, and times stand there as they are."""
    config = Config()
    statuses = ", ".join(map(str, sorted(RETRYABLE)))
    for text in (
        f"# The wire format, version {VERSION}",
        f'"versions": [{VERSION}]',
        f"`{ID.pattern}`",
        f"`{NAME.pattern}`",
        f"**Try again** after {statuses}, a connection error",
        f"at least {MINIMUM_BYTES} bytes",
        f"at most {TOLERANCE} s off",
        f"one try {config.timeout:.0f} s, and up to five tries {config.deadline:.0f} s in all",
    ):
        assert text in TEXT
    assert TRIES == 5


@pytest.mark.parametrize(
    ("table", "decoded", "required"),
    [
        ("dispatch", dispatched, {"type": "dispatch", "job": "a"}),
        ("batch", batched, {"type": "dispatch.batch", "jobs": [{"id": "a", "job": "b"}]}),
        ("item", of_one, {"id": "a", "job": "b"}),
    ],
)
def test_members_and_defaults(table, decoded: Decoded, required):
    """The defaults are those that a receiver fills in, and what is required it misses."""
    told = members(table)
    assert {name for name, default in told.items() if default == "required"} == set(required)
    defaults = {name: json.loads(told[name]) for name in told.keys() - required.keys()}
    assert decoded(defaults | required) == decoded(required)
    for name in required:
        with pytest.raises(RequestError):
            decoded({key: value for key, value in required.items() if key != name})


def test_the_members_are_those_that_we_send():
    """No member of a request is left out of the page."""
    job = Job("a", id="b")
    batch = json.loads(encode_batch([job], "default", NOW))
    assert members("dispatch").keys() == json.loads(encode_dispatch(job, "default", NOW)).keys()
    assert members("batch").keys() == batch.keys()
    assert members("item").keys() == batch["jobs"][0].keys()


def test_the_members_of_answers():
    """The tables of answers name what the receiver answers, and every state."""
    for title, answer, states in (
        ("of a job", encode_status(JOB_STATUS), STATES),
        ("of a batch", encode_batch_status(BATCH_STATUS), BATCH_STATES),
    ):
        table = rows(title)
        told = [name for names, _ in table for name in quoted(names)]
        assert sorted(told) == sorted(answer)
        (meaning,) = (meaning for name, meaning in table if name == "`state`")
        assert states <= set(quoted(meaning))


def test_the_examples_are_read():
    """Each example is what the code reads, and answers."""
    job = dispatched(example("dispatch"))
    assert (job.job, job.queue, job.delay, job.priority) == ("send-mail", "emails", 60, 10)
    assert job.trace == {"traceparent": TRACEPARENT}
    batch = batched(example("batch"))
    assert list(batch.ids) == example("accepted batch")["ids"]
    assert {name: job.id for name, job in batch.callbacks.items()} == {"then": "b1-then"}
    assert {job.queue for job in batch.jobs} == {"pictures"}
    assert example("accepted")["state"] in STATES
    assert example("accepted batch")["state"] in BATCH_STATES
