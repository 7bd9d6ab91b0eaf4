"""The programs of a run: supervisors with their workers, and enqueuing programs."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from dispatcher_local_queue.files import QueueFiles

from .jobs import EVENTS
from .killing import Victim, children_of

__all__ = ["TESTS", "Place", "Program"]

TESTS = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Place:
    """Where everything of one run lies.

    Attributes:
        folder: an empty folder.
    """

    folder: Path

    @property
    def database(self) -> Path:
        """The queue's file."""
        return self.folder / "queue.sqlite3"

    @property
    def queue_files(self) -> QueueFiles:
        """The queue's files."""
        return QueueFiles(self.database)

    @property
    def events(self) -> Path:
        """The folder of what the workers record."""
        return self.folder / "events"

    def log(self, name: str) -> Path:
        """What a program records or prints."""
        return self.folder / f"{name}.log"

    def prepare(self) -> None:
        """Make the folders."""
        self.events.mkdir(parents=True)

    def start_supervisor(self, name: str, processes: int) -> "Program":
        """Start ``dispatcher work``."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("DISPATCHER_")}
        settings = {
            "DISPATCHER_QUEUE_URL": f"sqlite:///{self.database}",
            "DISPATCHER_MODULES": "soak.jobs",
            "DISPATCHER_LIFESPAN": "soak.jobs:lifespan",
            "DISPATCHER_AROUND_JOB": "soak.jobs:around_job",
            EVENTS: str(self.events),
        }
        return Program.start(
            *("dispatcher_core", "work", "-q", "--processes", str(processes)),
            *("--app-dir", str(TESTS)),
            kind="supervisor",
            folder=self.folder,
            output=self.log(name),
            environment={**inherited, **settings},
        )

    def start_enqueuer(self, name: str, arguments: Mapping[str, object]) -> "Program":
        """Start ``python -m soak.enqueuer``."""
        given = {"database": self.database, "log": self.log(name), **arguments}
        return Program.start(
            "soak.enqueuer",
            *(f"--{key}={value}" for key, value in given.items()),
            kind="enqueuer",
            folder=TESTS,
            output=self.log(f"{name}-output"),
        )


@dataclass(frozen=True, slots=True)
class Program:
    """A program that this one has started.

    Attributes:
        kind: ``supervisor`` or ``enqueuer``.
        process: the process.
    """

    kind: str
    process: subprocess.Popen[bytes]

    @classmethod
    def start(
        cls,
        *module: str,
        kind: str,
        folder: Path,
        output: Path,
        environment: Mapping[str, str] | None = None,
    ) -> Self:
        """Run a module with its arguments; what it prints is added to the file ``output``."""
        with output.open("ab") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", *module],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        return cls(kind, process)

    def victims(self, *, workers: bool) -> list[Victim]:
        """It, if it lives, and its worker processes if they are wanted: to be killed."""
        pid = self.process.pid
        found = [Victim.child_of(os.getpid(), pid, self.kind)]
        if workers:
            found += [Victim.child_of(pid, child, "worker") for child in children_of(pid)]
        return [victim for victim in found if victim is not None]

    def stop(self, seconds: float) -> int:
        """Ask it to stop; its exit code. It is killed if it takes longer."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
