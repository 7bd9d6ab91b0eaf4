"""One worker process, as its supervisor holds it."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

from .liveness import group_runs, new_life_id
from .reports import Left, Refused, Report, ReportReader
from .spec import WorkerSpec, WorkSettings

__all__ = ["Child", "end_group"]

_GROUP_PATIENCE = 1.0


@dataclass(slots=True)
class Child:
    """A worker process. It leads a process group of its own.

    Attributes:
        slot: its place in the shared memory.
        worker_id: its id.
        process: the process.
        reports: what it tells.
        started: when it was started, on the monotonic clock.
        told: which reports have come from it.
        judged: the token of the run that was last found overdue.
    """

    slot: int
    worker_id: str
    process: subprocess.Popen[bytes]
    reports: ReportReader
    started: float
    told: set[type[Report]] = field(default_factory=set)
    judged: int | None = None

    @classmethod
    def start(
        cls, settings: WorkSettings, *, supervisor_id: str, slot: int, memory: int, leash: int
    ) -> Self:
        """Start a worker process in a fresh interpreter."""
        read_end, write_end = os.pipe()
        os.set_blocking(read_end, False)
        spec = WorkerSpec(
            settings=settings,
            worker_id=new_life_id(),
            supervisor_id=supervisor_id,
            slot=slot,
            memory=memory,
            leash=leash,
            report=write_end,
        )
        # -P: only --app-dir is put on sys.path, never the folder that happens to be current.
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "dispatcher_local_queue.worker", spec.to_json()],
            stdin=subprocess.DEVNULL,
            pass_fds=(memory, leash, write_end),
            process_group=0,
        )
        os.close(write_end)
        return cls(slot, spec.worker_id, process, ReportReader(read_end), time.monotonic())

    @property
    def pid(self) -> int:
        """Its process id, and that of its group."""
        return self.process.pid

    @property
    def left(self) -> bool:
        """Whether it ended by itself, or is about to."""
        return not self.told.isdisjoint((Left, Refused))

    def dead(self) -> bool:
        """Whether it has died. Until it is buried, nothing else can get its pid."""
        if self.process.returncode is not None:
            return True
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.pid, flags) is not None

    def kill(self) -> None:
        """Kill it."""
        self.process.kill()

    def bury(self) -> None:
        """Reap it, once it is dead; end what it left in its group, unless it left by itself."""
        if self.process.returncode is not None:
            return
        if not self.left:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()
        if not self.left:
            _await_end(self.pid)
        self.reports.close()

    def cause_of_death(self) -> str:
        """How it ended, in words, once it is buried."""
        code = self.process.returncode
        return f"exit {code}" if code >= 0 else signal.Signals(-code).name


def end_group(pid: int) -> None:
    """End what is left of a process group whose leader has gone."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
    _await_end(pid)


def _await_end(group: int) -> None:
    # A killed process may take a moment to be gone; its zombie is ours if we run as init.
    deadline = time.monotonic() + _GROUP_PATIENCE
    while time.monotonic() < deadline:
        with suppress(ChildProcessError):
            os.waitpid(-group, os.WNOHANG)
        if not group_runs(group):
            return
        time.sleep(0.001)
