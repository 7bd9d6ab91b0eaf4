"""Signals that wake a loop."""

import os
import select
import signal

import pytest

from dispatcher_local_queue.signals import Signals


@pytest.fixture
def signals():
    """Signals that are caught."""
    signals = Signals()
    with signals.caught():
        yield signals
    signals.close()


def readable(signals: Signals) -> bool:
    return bool(select.select([signals.descriptor], [], [], 0)[0])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_request_to_stop(signals, number) -> None:
    """INT and TERM ask to stop, and wake whoever waits."""
    assert (signals.requests(), readable(signals)) == (0, False)
    os.kill(os.getpid(), number)
    assert (signals.requests(), readable(signals)) == (1, True)
    signals.clear()
    assert readable(signals) is False
    assert signals.requests() == 1


def test_quick_repetitions_count_once(signals, monkeypatch) -> None:
    """A second signal counts a second later: a terminal and a manager may both pass one on."""
    now = [100.0]
    monkeypatch.setattr("dispatcher_local_queue.signals.time.monotonic", lambda: now[0])
    counts = []
    for now[0] in (100.0, 100.1, 100.9, 101.1):
        signal.raise_signal(signal.SIGTERM)
        counts.append(signals.requests())
    assert counts == [1, 1, 1, 2]


def test_a_dead_child_only_wakes(signals) -> None:
    """CHLD is a reason to look, and no request."""
    os.kill(os.getpid(), signal.SIGCHLD)
    assert (signals.requests(), readable(signals)) == (0, True)


def test_handlers_are_put_back() -> None:
    """After the block, signals do what they did before."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)
    before = [signal.getsignal(number) for number in numbers]
    signals = Signals()
    with signals.caught():
        assert [signal.getsignal(number) for number in numbers] != before
    signals.close()
    assert [signal.getsignal(number) for number in numbers] == before
