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


def die_once(folder: str) -> None:
    """Die as by ``kill -9``, but not when that has happened before."""
    tomb = Path(folder) / "tomb"
    if not tomb.exists():
        tomb.touch()
        os.kill(os.getpid(), signal.SIGKILL)


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
    """The counters of the batch as this callback sees them."""
    note_run(folder)
    batch = current_job().batch()
    assert batch is not None
    return [
        *(batch.state, batch.total, batch.pending),
        *(batch.succeeded, batch.failed, batch.cancelled),
    ]


@job("grow")
def grow(folder: str, before: int, after: int) -> None:
    """Add jobs to the batch, die once, and add more."""
    note_run(folder)
    current_job().add_to_batch([Job("note", {"folder": folder}) for _ in range(before)])
    die_once(folder)
    current_job().add_to_batch([Job("note", {"folder": folder}) for _ in range(after)])


@job("note")
def note(folder: str) -> None:
    """Only note the run."""
    note_run(folder)
