"""What a worker process tells its supervisor."""

import os

import pytest

from dispatcher_local_queue.reports import Left, Ready, Refused, ReportReader, ReportWriter


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
    reports = [Ready(("a", "b")), Left({"succeeded": 3}), Refused("no\nway ä")]
    for report in reports:
        writer.write(report)
    ready, left, refused = reader.read()
    assert tuple(ready.jobs) == ("a", "b")
    assert (left, refused) == (reports[1], reports[2])
    assert reader.read() == []
    assert reader.open


def test_a_report_in_parts(pipe) -> None:
    """A report of which only a part has come is kept until the rest is there."""
    reader, _, descriptor = pipe
    os.write(descriptor, b'["Left", {"counts"')
    assert reader.read() == []
    os.write(descriptor, b': {"failed": 1}}]\n["Re')
    assert reader.read() == [Left({"failed": 1})]


def test_the_end_of_the_worker() -> None:
    """The end of the pipe is noticed after its last report."""
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    reader = ReportReader(read_end)
    ReportWriter(write_end).write(Left({}))
    os.close(write_end)
    assert reader.read() == [Left({})]
    assert not reader.open
    assert reader.read() == []
    reader.close()


def test_a_supervisor_that_is_gone() -> None:
    """A worker whose supervisor is gone reports into the void."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    ReportWriter(write_end).write(Ready(()))
    os.close(write_end)
