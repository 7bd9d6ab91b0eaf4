"""The memory that a supervisor shares with its workers."""

import os
import struct

import pytest

from dispatcher_local_queue.slots import Run, Slots, anonymous_file


@pytest.fixture
def file():
    """Memory for three workers."""
    with anonymous_file(3) as file:
        yield file


def test_what_is_posted_is_read(file) -> None:
    """A run is seen by whoever maps the same memory, in its slot alone."""
    writer, reader = Slots(file.fileno()), Slots(file.fileno())
    run, other = Run(10**18, 2**62 - 1, 1500), Run(7, 1, None)
    writer.post(1, run)
    writer.post(2, other)
    assert [reader.read(slot) for slot in range(3)] == [None, run, other]
    writer.clear(1)
    assert [reader.read(slot) for slot in range(3)] == [None, None, other]


def test_a_run_without_delay(file) -> None:
    """No other try and another try at once are different things."""
    slots = Slots(file.fileno())
    for retry in (None, 0):
        slots.post(0, Run(1, 2, retry))
        assert slots.read(0).retry_ms == retry


def test_a_half_posted_run_does_not_count(file) -> None:
    """Until the deadline is written, there is no run to judge."""
    slots = Slots(file.fileno())
    os.pwrite(file.fileno(), struct.pack("qqq", 0, 5, 6), 0)
    assert slots.read(0) is None


def test_the_memory_has_no_name(file) -> None:
    """Nothing is left in a file system when everybody is killed."""
    assert os.fstat(file.fileno()).st_nlink == 0


def test_runs_are_counted(file) -> None:
    """How runs ended is counted in every slot, and what runs there next changes none of it."""
    writer, reader = Slots(file.fileno()), Slots(file.fileno())
    for slot, state in ((0, "succeeded"), (2, "failed"), (2, "succeeded"), (1, "scheduled")):
        writer.count(slot, state)
    run = Run(10**18, 2**62 - 1, None)
    for slot in range(3):
        writer.post(slot, run)
    assert +reader.counts() == {"succeeded": 2, "failed": 1, "scheduled": 1}
    assert [reader.read(slot) for slot in range(3)] == [run] * 3
