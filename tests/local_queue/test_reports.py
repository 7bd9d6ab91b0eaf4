"""What a worker process tells its supervisor."""

import os

import pytest

from dispatcher_local_queue.reports import (
    Done,
    Left,
    Loaded,
    Ready,
    Refused,
    ReportReader,
    ReportWriter,
)


@pytest.fixture
def pipe():
    """Both ends of a pipe: a reader, a writer, and the writer's descriptor."""
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    reader = ReportReader(read_end)
    yield reader, ReportWriter(write_end), write_end
    reader.close()
    os.close(write_end)


def test_reports_arrive_in_order(pipe) -> None:
    """Each report arrives as what it was."""
    reader, writer, _ = pipe
    reports = [Ready(("a", "b")), Loaded(), Refused("no\nway ä"), Done(), Left()]
    for report in reports:
        writer.write(report)
    ready, *others = reader.read()
    assert tuple(ready.jobs) == ("a", "b")
    assert others == reports[1:]
    assert reader.read() == []
    assert reader.open


def test_a_report_in_parts(pipe) -> None:
    """A report of which only a part has come is kept until the rest is there."""
    reader, _, descriptor = pipe
    os.write(descriptor, b'["Refused", {"reason"')
    assert reader.read() == []
    os.write(descriptor, b': "no way"}]\n["Re')
    assert reader.read() == [Refused("no way")]


def test_the_end_of_the_worker() -> None:
    """The end of the pipe is noticed after its last report."""
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    reader = ReportReader(read_end)
    ReportWriter(write_end).write(Left())
    os.close(write_end)
    assert reader.read() == [Left()]
    assert not reader.open
    assert reader.read() == []
    reader.close()


def test_a_supervisor_that_is_gone() -> None:
    """A worker whose supervisor is gone reports into the void."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    ReportWriter(write_end).write(Ready(()))
    os.close(write_end)
