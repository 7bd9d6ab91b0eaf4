"""An application whose jobs these tests run."""

import contextlib
import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path

from dispatcher_core import Cancelled, Fail, Retry, current_job, job
from dispatcher_local_queue.liveness import birth_of

SLEEPER = [sys.executable, "-c", "import signal; signal.pause()"]


def note(folder: str, line: object) -> None:
    """Add a line to the notes that the test reads."""
    with (Path(folder) / "notes").open("a") as notes:
        notes.write(f"{line}\n")


def await_go(folder: str) -> None:
    """Wait until the test has made the file ``go``."""
    while not (Path(folder) / "go").exists():
        time.sleep(0.005)


@job("add")
def add(a: int, b: int) -> int:
    return a + b


@job("pid")
def pid(folder: str | None = None) -> int:
    if folder:
        note(folder, current_job().id)
    return os.getpid()


@job("hold", timeout=60)
def hold(folder: str) -> int:
    note(folder, os.getpid())
    await_go(folder)
    return os.getpid()


@job("hold-gently", timeout=60, tries=3)
def hold_gently(folder: str) -> None:
    note(folder, os.getpid())
    job = current_job()
    done = 0
    while not job.cancel_requested:
        done += 1
        job.report_progress(done, 1_000_000)
        time.sleep(0.01)
    raise Cancelled


@job("flaky", tries=3, backoff=[0.05, 0.2])
def flaky(failures: int) -> int:
    attempt = current_job().attempt
    if attempt <= failures:
        raise ValueError(f"no luck at try {attempt}")
    return attempt


@job("refuse", tries=5)
def refuse() -> None:
    raise Fail("never")


@job("later", tries=2)
def later() -> int:
    if current_job().attempt == 1:
        raise Retry(after=0.1)
    return current_job().attempt


@job("leave")
def leave(how: str) -> None:
    raise {"exit": SystemExit(3), "interrupt": KeyboardInterrupt()}[how]


@job("vanish")
def vanish(folder: str) -> None:
    note(folder, os.getpid())
    os._exit(9)


@job("stubborn", timeout=0.1)
def stubborn() -> None:
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(0.01)


@job("chatty", timeout=0.05)
def chatty() -> None:
    done = 0
    while True:
        done += 1
        current_job().report_progress(done, done)


@job("litter", tries=2, timeout=60)
def litter(folder: str) -> bool:
    """Whether what the first run left behind runs on beside the second one."""
    child = Path(folder) / "child"
    if child.exists():
        return birth_of(int(child.read_text())) != ""
    child.write_text(str(subprocess.Popen(SLEEPER).pid))
    os._exit(9)


@job("bequeath", timeout=60)
def bequeath(folder: str, way: str) -> str:
    """Leave a child in a session of its own, then wait; a second run does not."""
    child = Path(folder) / "child"
    if child.exists():
        return way
    unfinished = child.with_name("unfinished")
    unfinished.write_text(str(WAYS[way]()))
    unfinished.rename(child)
    note(folder, os.getpid())
    await_go(folder)
    return way


def _forked() -> int:
    pid = os.fork()
    if pid == 0:
        _sleep_alone()
    return pid


def _forked_in_c() -> int:
    pid = ctypes.CDLL(None).fork()
    if pid == 0:
        _sleep_alone()
    return pid


def _spawned() -> int:
    return subprocess.Popen(SLEEPER, close_fds=False, start_new_session=True).pid


def _sleep_alone() -> None:
    os.setsid()
    while True:
        time.sleep(60)


WAYS = {"fork": _forked, "c-fork": _forked_in_c, "subprocess": _spawned}
