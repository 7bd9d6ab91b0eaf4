"""Waking sleeping workers."""

import os
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dispatcher_local_queue.wakeup import MOST_KEPT, Bells, Sleeper

LONG = 10.0


class Leash:
    """The pipe whose end tells workers to go."""

    def __init__(self) -> None:
        self.end, self._held = os.pipe()

    def let_go(self) -> None:
        os.close(self._held)
        self._held = -1

    def close(self) -> None:
        os.close(self.end)
        if self._held >= 0:
            os.close(self._held)


@pytest.fixture
def leash():
    """A leash that is held."""
    leash = Leash()
    yield leash
    leash.close()


@pytest.fixture
def folder(database):
    """The folder of the pipes."""
    with database.read():
        return database.files.folder


@pytest.fixture
def sleeper(folder, database, leash):
    """One who sleeps, with pipes of its own."""
    bells = Bells(database.files)
    yield Sleeper(bells, leash.end)
    bells.close()


@pytest.fixture
def slept(sleeper):
    """Sleeps and tells for how long, in seconds."""

    def slept(queues=("default",), seconds: float = LONG) -> float:
        started = time.monotonic()
        sleeper.sleep(queues, seconds)
        return time.monotonic() - started

    return slept


def test_a_nudge_wakes(slept, bells) -> None:
    """A nudge that came before or while one sleeps ends the sleep."""
    bells.ring("default")
    assert slept() < LONG / 2
    with ThreadPoolExecutor(1) as threads:
        sleep = threads.submit(slept)
        while not sleep.done():
            bells.ring("default")
        assert sleep.result() < LONG / 2


def test_a_nudge_is_heard_once(slept, bells) -> None:
    """After it has woken, the next sleep is undisturbed, whatever number of nudges came."""
    for _ in range(5):
        bells.ring("default")
    assert slept() < LONG / 2
    assert slept(seconds=0.1) >= 0.099


def test_only_ones_own_queues_wake(slept, bells) -> None:
    """A nudge for another queue disturbs nobody, and is kept for those whom it is meant for."""
    bells.ring("other")
    assert slept(seconds=0.1) >= 0.099
    assert slept(("default", "other")) < LONG / 2


def test_a_lost_nudge_costs_the_rest_of_the_sleep(slept, bells) -> None:
    """A nudge that somebody else has eaten makes one wait no longer than one sleeps anyway."""
    bells.ring("default")
    bells.silence(["default"])
    assert 0.099 <= slept(seconds=0.1) < LONG / 2


@pytest.mark.parametrize("seconds", [0.0, -5.0])
def test_what_is_due_is_not_slept_over(slept, seconds) -> None:
    """With no time to sleep, it looks and comes back."""
    assert slept(seconds=seconds) < LONG / 2


def test_a_full_pipe(slept, bells) -> None:
    """An enqueuer never waits for sleepers: what does not fit is as good as rung."""
    for _ in range(70_000):
        bells.ring("default")
    assert slept() < LONG / 2
    assert slept(seconds=0.1) >= 0.099


def test_nobody_listens(folder, bells) -> None:
    """A nudge before any worker exists is kept for it, and breaks no pipe."""
    bells.ring("default")
    assert stat.S_ISFIFO((folder / "wake-default").stat().st_mode)


def test_two_of_many_sleepers(folder, database, leash) -> None:
    """Two nudges in a row wake at least one of several sleepers, and never fail one of them."""
    everybody = [Bells(database.files) for _ in range(4)]
    sleepers = [Sleeper(bells, leash.end) for bells in everybody]
    with ThreadPoolExecutor(4) as threads:
        naps = [threads.submit(sleeper.sleep, ["default"], 1.0) for sleeper in sleepers]
        everybody[0].ring("default")
        everybody[0].ring("default")
        for nap in naps:
            nap.result()
    for bells in everybody:
        bells.close()


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_queue_without_a_pipe(slept, bells, folder, kind) -> None:
    """Where there can be no pipe, sleeps are short instead."""
    path = folder / "wake-default"
    path.mkdir() if kind == "folder" else path.touch()
    bells.ring("default")
    assert 0.09 <= slept() < LONG / 2
    assert 0.09 <= slept() < LONG / 2


def test_a_missing_folder(slept, database) -> None:
    """Where not even the folder is left, a nudge is no error, and sleeps are short."""
    for path in database.files.folder.iterdir():
        path.unlink()
    database.files.folder.rmdir()
    other = Bells(database.files)
    other.ring("default")
    assert slept() < LONG / 2


def test_the_end_of_the_leash_wakes(sleeper, slept, leash) -> None:
    """When the supervisor lets go, or is gone, who sleeps wakes and knows."""
    assert sleeper.released() is False
    with ThreadPoolExecutor(1) as threads:
        sleep = threads.submit(slept)
        leash.let_go()
        assert sleep.result() < LONG / 2
    assert sleeper.released() is True


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_threads_ring_the_first_time_at_once(folder, database) -> None:
    """Threads that need the same pipe for the first time share one descriptor."""
    before = open_files()
    bells = Bells(database.files)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(bells.ring, ["default"] * 64))
    assert open_files() == before + 1
    bells.close()
    assert open_files() == before


def test_more_queues_than_descriptors(folder, database) -> None:
    """Pipes beyond those that are kept open are rung too, and their descriptors given back."""
    bells, listener = Bells(database.files), Bells(database.files)
    last = listener.pipe(f"queue-{MOST_KEPT + 9}")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(MOST_KEPT + 10):
        bells.ring(f"queue-{number}")
    assert len(list(Path("/proc/self/fd").iterdir())) == before + MOST_KEPT
    assert os.read(last, 9) == b"\0"
    bells.close()
    listener.close()
