"""An application whose jobs come in batches, and note each of their runs."""

import os
import signal
import time
from pathlib import Path

from dispatcher_core import Fail, Job, current_job, job


def note_run(folder: str) -> None:
    """Note which run of which job this is, and its process: one write, so whole or not at all."""
    line = f"{current_job().id} {current_job().attempt} {os.getpid()}\n"
    descriptor = os.open(Path(folder) / "runs", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, line.encode("ascii"))
    os.close(descriptor)


def stumble_once(folder: str, how: str) -> None:
    """Die as by ``kill -9``, or fail; but not when that has happened before."""
    stone = Path(folder) / "stone"
    if stone.exists():
        return
    stone.touch()
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    raise ValueError("stumbled")


@job("deliver", tries=2, backoff=0.01)
def deliver(folder: str, seconds: float, fails: str) -> None:
    """Take a while, then succeed, or fail ``at-once`` or at ``every-try``."""
    note_run(folder)
    time.sleep(seconds)
    if fails == "at-once":
        raise Fail("lost")
    if fails == "every-try":
        raise ValueError("nobody at home")


@job("report")
def report(folder: str) -> list[object]:
    """The counters of the batch as this callback sees them, after a while."""
    note_run(folder)
    time.sleep(0.1)
    batch = current_job().batch()
    assert batch is not None
    return [
        *(batch.state, batch.total, batch.pending),
        *(batch.succeeded, batch.failed, batch.cancelled),
    ]


@job("grow", tries=2, backoff=0)
def grow(folder: str, before: int, after: int, how: str) -> None:
    """Add jobs to the batch, stumble once, and add more."""
    note_run(folder)
    current_job().add_to_batch([Job("note", {"folder": folder}) for _ in range(before)])
    stumble_once(folder, how)
    current_job().add_to_batch([Job("note", {"folder": folder}) for _ in range(after)])


@job("note")
def note(folder: str) -> None:
    """Only note the run."""
    note_run(folder)
