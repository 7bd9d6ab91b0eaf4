"""The demo as app A: it dispatches, kills a worker process, and waits for the ends."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import DispatcherError, WaitTimeout
from ..jobs import Job
from ..status import JobStatus
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

_AT_ONCE = 4
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
        counted: of each file's job, in the order of the files.
        stumbled: of the job that fails twice.
        delayed: of the one that starts late.
        refused: why the unknown one was refused, None where it was not.
        survival: of the one whose process was killed.
        counting: seconds from the first file dispatched to the last one counted.
    """

    counted: Sequence[JobStatus]
    stumbled: JobStatus
    delayed: JobStatus
    refused: DispatcherError | None
    survival: Survival
    counting: float


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
        start = time.monotonic()
        with self._dispatching(files) as sent:
            survival = self._kill(note, surviving)
            ids = self._ids(sent)
        return Played(
            survival=survival,
            counted=self._all_ended(ids),
            counting=time.monotonic() - start,
            stumbled=self._ended(stumbling),
            delayed=self._ended(delayed),
            refused=refused,
        )

    def _dispatch(self, job: Job) -> str:
        return self._stage.dispatcher.dispatch(job).raise_for_error().id

    @contextmanager
    def _dispatching(self, files: Sequence[TextFile]) -> Iterator[Sequence[Future[str]]]:
        pool = ThreadPoolExecutor(_AT_ONCE)
        try:
            counts = [Job(jobs.count, {"path": str(file.path)}) for file in files]
            yield [pool.submit(self._dispatch, job) for job in counts]
        finally:
            pool.shutdown(cancel_futures=True)

    def _ids(self, sent: Sequence[Future[str]]) -> list[str]:
        ids: list[str] = []
        for future in sent:
            ids.append(future.result())
            self._limits.check("dispatching")
            self._screen.progress("files dispatched:", len(ids), len(sent))
        return ids

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

    def _all_ended(self, ids: Sequence[str]) -> list[JobStatus]:
        ended: list[JobStatus] = []
        for counted in ids:
            ended.append(self._ended(counted))
            self._screen.progress("files counted:", len(ended), len(ids))
        return ended

    def _ended(self, id: str) -> JobStatus:
        def look() -> JobStatus | None:
            self._stage.check()
            try:
                return self._stage.dispatcher.wait(id, _LOOK)
            except WaitTimeout:
                return None

        return self._limits.until(look, "waiting for the jobs to end")
