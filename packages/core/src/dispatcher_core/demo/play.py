"""The demo as app A: it dispatches, kills a worker process, and waits for the ends."""

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import DispatcherError, WaitTimeout
from ..jobs import Job
from ..result import Result
from ..status import BatchStatus, JobStatus, Progress
from . import jobs
from .files import TextFile
from .limits import Limits
from .screen import Screen
from .stage import Stage

__all__ = ["DELAY", "UNKNOWN", "Play", "Played", "Survival"]

DELAY = 1.0
"""Seconds before the delayed job may start."""

UNKNOWN = "demo-unheard-of"
"""A name that no job has."""

_LOOK = 0.2


@dataclass(frozen=True, slots=True)
class Survival:
    """What became of the job whose process was killed.

    Attributes:
        status: of the job.
        killed: the process.
        recovery: seconds from the kill until the job had ended.
    """

    status: JobStatus
    killed: int
    recovery: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What became of the jobs.

    Attributes:
        batch: of the batch that counts the files.
        total: of the job that adds up the counts once the batch has ended.
        counted: of each file's job, in the order of the files.
        stumbled: of the job that fails twice.
        delayed: of the one that starts late.
        refused: why the unknown one was refused, None where it was not.
        survival: of the one whose process was killed.
    """

    batch: BatchStatus
    total: JobStatus
    counted: Sequence[JobStatus]
    stumbled: JobStatus
    delayed: JobStatus
    refused: DispatcherError | None
    survival: Survival


class Play:
    """One run of the demo's jobs.

    Args:
        stage: the other application.
        limits: when to stop.
        screen: where the progress is shown.
    """

    def __init__(self, stage: Stage, limits: Limits, screen: Screen) -> None:
        self._stage = stage
        self._limits = limits
        self._screen = screen

    def run(self, files: Sequence[TextFile]) -> Played:
        """Dispatch all jobs, and wait until all have ended.

        Args:
            files: those to be counted.

        Raises:
            DispatcherError: a job was not accepted, the other application broke down, or the
                time is up.
            Interrupted: a signal came.
        """
        note = self._stage.folder / "survive.pid"
        surviving = self._dispatch(Job(jobs.survive, {"note": str(note)}, priority=100))
        stumbling = self._dispatch(Job(jobs.stumble))
        delayed = self._dispatch(Job(jobs.later, delay=DELAY))
        refused = self._stage.dispatcher.dispatch(UNKNOWN).error
        batch, adding_up = self._dispatch_batch(files)
        survival = self._kill(note, surviving)
        return Played(
            batch=self._batch_ended(batch.id),
            total=self._ended(adding_up),
            counted=self._all_ended(batch.ids),
            stumbled=self._ended(stumbling),
            delayed=self._ended(delayed),
            refused=refused,
            survival=survival,
        )

    def _dispatch(self, job: Job) -> str:
        return self._stage.dispatcher.dispatch(job).raise_for_error().id

    def _dispatch_batch(self, files: Sequence[TextFile]) -> tuple[Result, str]:
        """Have the files counted, and then, by the job of that id, the counts added up."""
        notes = self._stage.folder / "counts"
        notes.mkdir()
        counts = [
            Job(jobs.count, {"path": str(file.path), "note": str(notes / f"{number}.json")})
            for number, file in enumerate(files)
        ]
        then = Job(jobs.total, {"folder": str(notes)})
        # Failures are allowed: a file that vanished is a problem of its own, not of all others.
        batch = self._stage.dispatcher.batch(counts, then=then, allow_failures=True)
        batch.raise_for_error()
        self._screen.line(f"a batch of {len(counts)} jobs is accepted, one for each file")
        return batch, then.id

    def _kill(self, note: Path, id: str) -> Survival:
        """Kill the process that wrote the note, while its job runs there."""

        def written() -> int | None:
            self._stage.check()
            return int(note.read_text()) if note.exists() else None

        process = self._limits.until(written, "waiting for the job that is to be killed")
        os.kill(process, signal.SIGKILL)
        start = time.monotonic()
        self._screen.line(f"killed the worker process {process} in mid-job")
        status = self._ended(id)
        return Survival(status, process, time.monotonic() - start)

    def _batch_ended(self, id: str) -> BatchStatus:
        def look() -> BatchStatus | None:
            self._stage.check()
            status = self._stage.dispatcher.batch_status(id)
            self._screen.progress("files counted:", status.progress)
            return status if status.finished else None

        return self._limits.until(look, "waiting for the batch to end")

    def _all_ended(self, ids: Sequence[str]) -> list[JobStatus]:
        ended: list[JobStatus] = []
        for counted in ids:
            ended.append(self._ended(counted))
            self._screen.progress("results fetched:", Progress(len(ended), len(ids)))
        return ended

    def _ended(self, id: str) -> JobStatus:
        def look() -> JobStatus | None:
            self._stage.check()
            try:
                return self._stage.dispatcher.wait(id, _LOOK)
            except WaitTimeout:
                return None

        return self._limits.until(look, "waiting for the jobs to end")
