"""Work in a thread of its own, waited for no longer than a deadline."""

from threading import Event, Thread

import pytest

from dispatcher_http_sender.background import finish_within
from dispatcher_http_sender.deadline import Deadline


def test_result():
    """What the work returns comes back, and what it raises."""
    assert finish_within(Deadline.after(30.0), lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        finish_within(Deadline.after(30.0), lambda: 1 // 0)


def test_deadline():
    """Work that takes longer is not waited for."""
    release = Event()
    with pytest.raises(TimeoutError):
        finish_within(Deadline.after(0.05), lambda: release.wait(30))
    release.set()


def test_no_time_left():
    """Past the deadline the work is not begun."""
    begun = []
    deadline = Deadline.after(0.0)

    with pytest.raises(TimeoutError):
        finish_within(deadline, lambda: begun.append(1))

    assert (begun, deadline.passed) == ([], True)
    assert not Deadline.after(30.0).passed


def test_no_thread(monkeypatch):
    """Where the system has no thread left, the error says so."""

    def start(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Thread, "start", start)

    with pytest.raises(OSError, match="no thread could be started: can't start new thread"):
        finish_within(Deadline.after(30.0), lambda: 7)
