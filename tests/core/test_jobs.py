import dataclasses
import uuid
from datetime import UTC, datetime, timedelta, timezone
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher_core import DispatcherError, InvalidJob, Job, job
from dispatcher_core.jobs import MAX_DELAY
from dispatcher_core.names import derived_id, is_id, is_name, new_id

NOW = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)


@job
def plain() -> None:
    """A job without a name of its own."""


@job("named:job")
def named() -> None:
    """A job with one."""


def unmarked() -> None:
    """No job."""


def test_a_name_is_enough():
    """Everything but the name has a default."""
    made = Job("greet")
    assert (made.name, made.payload, made.queue, made.delay, made.priority) == (
        "greet",
        {},
        None,
        None,
        0,
    )
    assert uuid.UUID(made.id).version == 7


def test_a_job_cannot_be_changed():
    """A job is frozen."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Job("greet").name = "other"  # type: ignore[misc]


def test_a_job_can_be_varied():
    """``dataclasses.replace`` makes a checked copy, with the same id."""
    made = Job("greet", {"a": 1})
    varied = dataclasses.replace(made, queue="mail")
    assert (varied.id, varied.payload, varied.queue) == (made.id, {"a": 1}, "mail")
    with pytest.raises(InvalidJob):
        dataclasses.replace(made, priority=1000)


@pytest.mark.parametrize(
    ("target", "name"),
    [(plain, f"{__name__}.plain"), (named, "named:job"), ("a.b:c-d_1", "a.b:c-d_1")],
)
def test_a_callable_stands_for_its_name(target, name):
    """A marked callable is named as it is marked, else by module and qualified name."""
    assert Job(target).name == name


def test_a_callable_without_a_name_elsewhere_is_refused():
    """What is local, lives in ``__main__`` or is not marked cannot be named to others."""

    @job
    def local() -> None:
        """A job inside of a function."""

    with pytest.raises(InvalidJob, match=r"@job\('a-name'\)"):
        Job(local)
    with pytest.raises(InvalidJob, match="not marked"):
        Job(unmarked)
    local.__module__, local.__qualname__ = "__main__", "main_job"
    with pytest.raises(InvalidJob, match="__main__"):
        Job(local)


@pytest.mark.parametrize("name", ["", " ", "a b", "a/b", ".a", ":a", "-a", "é", "a\n", "x" * 129])
def test_an_ill_formed_name_is_refused(name):
    """Names of jobs and queues have 1 to 128 characters of a small set."""
    for arguments in ({"name": name}, {"name": "a", "queue": name}):
        with pytest.raises(InvalidJob, match="1 to 128 characters"):
            Job(**arguments)


@pytest.mark.parametrize("name", ["a", "_", "0", "a.b:c-d_e", "x" * 128])
def test_a_well_formed_name_is_taken(name):
    """The edges of what a name may be."""
    assert (Job(name).name, Job("a", queue=name).queue) == (name, name)


def test_a_payload_is_copied():
    """The mapping that was given may change later: the job does not."""
    payload: dict[str, Any] = {"a": 1, "list": [1, {"b": 2}], "pair": ([], 3)}
    made = Job("greet", MappingProxyType(payload))
    payload["a"] = 2
    payload["list"][1]["b"] = object()
    payload["list"].append(made)
    payload["pair"][0].append(4)
    assert made.payload == {"a": 1, "list": [1, {"b": 2}], "pair": [[], 3]}


def test_jobs_can_be_in_a_set():
    """A job has a hash, whatever its payload; equal ones have the same."""
    jobs = [Job("greet", {"a": [1]}, id="mine") for _ in range(2)]
    assert {*jobs, Job("greet", id="other")} == {jobs[1], Job("greet", id="other")}


def test_a_payload_flaw_has_its_path():
    """A payload that is no JSON is refused with the path of the value."""
    with pytest.raises(InvalidJob, match=r"payload\.users\[1\]\.born is a datetime"):
        Job("greet", {"users": [{}, {"born": NOW}]})


@pytest.mark.parametrize(
    ("delay", "seconds"),
    [
        (None, 0.0),
        (0, 0.0),
        (1.25, 1.25),
        (MAX_DELAY, MAX_DELAY),
        (timedelta(minutes=1), 60.0),
        (NOW + timedelta(seconds=30), 30.0),
        (NOW - timedelta(seconds=30), 0.0),
        (NOW.astimezone(timezone(timedelta(hours=-9))) + timedelta(hours=1), 3600.0),
    ],
)
def test_a_delay_is_seconds_in_the_end(delay, seconds):
    """Numbers, ``timedelta`` and aware ``datetime`` become seconds from now."""
    assert Job("greet", delay=delay).delay_seconds(NOW) == seconds


@pytest.mark.parametrize(
    "delay",
    [-0.001, MAX_DELAY + 1, float("inf"), float("nan"), 10**40, True, "1", timedelta(-1), [1]],
)
def test_a_delay_that_is_none_is_refused(delay):
    """Negative, endless, over a year, or no duration."""
    with pytest.raises(InvalidJob, match="delay="):
        Job("greet", delay=delay)


def test_a_delay_needs_a_time_zone():
    """A naive ``datetime`` could mean anything."""
    with pytest.raises(InvalidJob, match="time zone"):
        Job("greet", delay=datetime(2024, 5, 6))


def test_a_moment_is_at_most_a_year_ahead():
    """A ``datetime`` is measured when the job is sent."""
    made = Job("greet", delay=NOW + timedelta(seconds=MAX_DELAY + 1))
    with pytest.raises(InvalidJob, match="more than a year"):
        made.delay_seconds(NOW)
    assert made.delay_seconds(NOW + timedelta(seconds=1)) == MAX_DELAY


@pytest.mark.parametrize("priority", [-100, 0, 100])
def test_a_priority_within_the_bounds_is_taken(priority):
    """-100 to 100."""
    assert Job("greet", priority=priority).priority == priority


@pytest.mark.parametrize("priority", [-101, 101, 1.0, "1", True, None])
def test_a_priority_that_is_none_is_refused(priority):
    """Beyond the bounds, or no whole number."""
    with pytest.raises(InvalidJob, match="priority="):
        Job("greet", priority=priority)


@pytest.mark.parametrize("member", ["name", "queue", "delay", "priority", "id"])
def test_a_number_with_too_many_digits_is_refused(member):
    """An integer that Python does not write out is as wrong as any other."""
    with pytest.raises(InvalidJob, match=r"\(int\)"):
        Job(**{"name": "greet", member: 10**5000})


@pytest.mark.parametrize("id", ["", "-a", "a.b", "a b", "é", "a\n", "x" * 65, 7, b"a"])
def test_an_ill_formed_id_is_refused(id):
    """Ids have 1 to 64 characters of a small set, without the dot that signatures use."""
    with pytest.raises(InvalidJob, match="cannot be an id"):
        Job("greet", id=id)


def test_a_callers_mistake_is_a_value_error():
    """Callers may catch it as what Python calls it, or as an error of ours."""
    assert issubclass(InvalidJob, ValueError)
    assert issubclass(InvalidJob, DispatcherError)
    assert InvalidJob("x").code == "invalid-job"


@given(st.text(max_size=130))
def test_names_and_ids_are_ascii(text):
    """Whatever is taken as a name or an id survives a header and a URL."""
    for accepted in (is_name(text), is_id(text)):
        assert not accepted or (text.isascii() and text.isprintable() and " " not in text)


def test_new_ids_are_sorted_by_time():
    """Ids made in different milliseconds sort as they were made, and none comes twice."""
    ids = [new_id() for _ in range(2000)]
    assert len(set(ids)) == 2000
    stamps = [each[:13] for each in ids]
    assert stamps == sorted(stamps)
    assert all(is_id(each) and uuid.UUID(each).variant == uuid.RFC_4122 for each in ids)


def test_new_ids_are_uuids_of_version_7():
    """Version and variant are those of RFC 9562."""
    assert {uuid.UUID(new_id()).version for _ in range(100)} == {7}


@given(st.lists(st.text("ab", min_size=1)), st.lists(st.text("ab", min_size=1)))
def test_derived_ids_tell_their_parts_apart(first, second):
    """The same parts give the same UUID of version 8, others another one."""
    one, other = derived_id(first), derived_id(second)
    assert (one == other) is (first == second)
    assert is_id(one)
    assert (uuid.UUID(one).version, uuid.UUID(one).variant) == (8, uuid.RFC_4122)
