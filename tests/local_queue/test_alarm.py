"""The alarm that ends what runs too long, at any moment that it may ring."""

import asyncio
import gc
import random
import signal
import threading
import time

import pytest

from dispatcher_core import JobTimeout
from dispatcher_local_queue.alarm import Alarm
from dispatcher_local_queue.eventloop import EventLoop


@pytest.fixture
def alarm():
    """An alarm; what SIGALRM did before is put back."""
    before = signal.getsignal(signal.SIGALRM)
    yield Alarm()
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def loop(alarm):
    """A loop whose coroutines the alarm can end."""
    loop = EventLoop(alarm)
    yield loop
    loop.close()


async def wait_long() -> None:
    while True:
        await asyncio.sleep(0)


async def wait_once() -> None:
    await asyncio.sleep(0)


def wait_often(loop: EventLoop) -> None:
    """Wait for one short coroutine after the other, as hooks and handlers do."""
    until = time.monotonic() + 5
    while time.monotonic() < until:
        loop.wait(wait_once())


@pytest.mark.parametrize(
    "act", [lambda loop: loop.wait(wait_long()), wait_often], ids=["in one", "between many"]
)
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
def test_it_never_breaks_the_loop(alarm, loop, act) -> None:
    """Wherever the loop is when it rings, JobTimeout comes out, and the loop goes on."""
    for _ in range(150):
        with pytest.raises(JobTimeout), alarm.armed(random.uniform(0.0001, 0.002)):
            act(loop)
        assert loop.wait(asyncio.sleep(0, "still there")) == "still there"
    gc.collect()  # what had not begun to be awaited is warned of here, not in another test


def test_it_does_not_ring_afterwards(alarm, loop) -> None:
    """A block that ends in time is left alone, and so is what follows."""
    with alarm.armed(0.05):
        pass
    loop.wait(asyncio.sleep(0.1))


def test_it_rings_once(alarm) -> None:
    """Who has got JobTimeout may clean up for as long as it takes."""
    rung = []
    with alarm.armed(0.02):
        try:
            signal.pause()
        except JobTimeout:
            rung.append(True)
        until = time.monotonic() + 0.1
        while time.monotonic() < until:
            pass
    assert rung == [True]


@pytest.mark.parametrize("in_loop", [False, True])
def test_what_is_postponed_is_not_torn_apart(alarm, loop, in_loop) -> None:
    """It rings into nothing that is postponed, and strikes as soon as that has returned."""
    whole: list[bool] = []

    def hold() -> None:
        until = time.monotonic() + 0.05
        while time.monotonic() < until:
            pass
        whole.append(True)

    async def hold_in_loop() -> None:
        alarm.postponed(hold)
        pytest.fail("it did not strike")

    with pytest.raises(JobTimeout), alarm.armed(0.01):
        if in_loop:
            loop.wait(hold_in_loop())
        alarm.postponed(hold)
        pytest.fail("it did not strike")
    assert whole == [True]
    assert alarm.rang
    with alarm.armed(10):
        assert alarm.postponed(sum, [1, 2]) == 3


def test_other_threads_postpone_nothing(alarm) -> None:
    """What another thread does does not keep the alarm from the main thread."""
    begun, done = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        assert done.wait(20)

    thread = threading.Thread(target=alarm.postponed, args=[hold])
    thread.start()
    assert begun.wait(10)
    try:
        with pytest.raises(JobTimeout), alarm.armed(0.01):
            done.wait(10)
    finally:
        done.set()
        thread.join()
