"""The receiver and the worker of the demo: the real programs, in a temporary folder."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ..config import Config
from ..dispatcher import Dispatcher
from ..errors import DispatcherError
from ..secret import new_secret
from .limits import Limits

__all__ = ["PROCESSES", "Program", "Stage", "staged"]

PROCESSES = 2
"""Worker processes."""

_LISTENING = re.compile(rb"^listening on (http://\S+)\n", re.MULTILINE)
_DEADLINE = 3.0
_PATIENCE = 2.0
_DRAIN = "1"


@dataclass(frozen=True, slots=True)
class Program:
    """A command of ours that runs beside the demo.

    Attributes:
        name: what it is, for people.
        process: the process.
        log: the file that has its output.
    """

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Check that it runs.

        Raises:
            DispatcherError: it has ended.
        """
        code = self.process.poll()
        if code is not None:
            lines = self.log.read_text("utf-8", "replace").splitlines()
            last = lines[-1] if lines else "without a word"
            raise DispatcherError(f"the {self.name} has ended with exit code {code}: {last}")


@dataclass(frozen=True, slots=True)
class Stage:
    """The other application, running.

    Attributes:
        url: where its receiver listens.
        dispatcher: sends to it.
        folder: an empty folder, for notes.
        programs: its receiver and its worker.
    """

    url: str
    dispatcher: Dispatcher
    folder: Path
    programs: Sequence[Program]

    def check(self) -> None:
        """Check that all of it runs.

        Raises:
            DispatcherError: one of its programs has ended.
        """
        for program in self.programs:
            program.check()


@contextmanager
def staged(limits: Limits) -> Iterator[Stage]:
    """The other application, until the block ends. It leaves nothing behind.

    Args:
        limits: when to stop waiting for it to come up.

    Raises:
        DispatcherError: it does not come up.
        Interrupted: a signal came.
    """
    with TemporaryDirectory(prefix="dispatcher-demo-") as name:
        folder, secret = Path(name), new_secret(64)
        programs: list[Program] = []
        try:
            programs.append(_started("receiver", folder, secret, "serve", "--port", "0"))
            work = ("work", "--processes", str(PROCESSES), "--shutdown-timeout", _DRAIN)
            programs.append(_started("worker", folder, secret, *work))
            yield _up(programs, folder, secret, limits)
        finally:
            _end(programs)


def _started(name: str, folder: Path, secret: str, *words: str) -> Program:
    """A command of ours in the folder, deaf to the settings and the terminal around the demo."""
    outside = {key: text for key, text in os.environ.items() if not key.startswith("DISPATCHER_")}
    settings = {
        "DISPATCHER_BACKEND_SECRET": secret,
        "DISPATCHER_IS_BACKEND": "true",
        "DISPATCHER_MODULES": "dispatcher_core.demo.jobs",
        "DISPATCHER_QUEUE_URL": "sqlite:///queue.sqlite3",
    }
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "dispatcher_core", *words],
            cwd=folder,
            env=outside | settings,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,  # Ctrl-C is for the demo, which ends the others in good order
        )
    return Program(name, process, log)


def _up(programs: Sequence[Program], folder: Path, secret: str, limits: Limits) -> Stage:
    receiver, _ = programs

    def url() -> str | None:
        receiver.check()
        found = _LISTENING.search(receiver.log.read_bytes())
        return found and found[1].decode()

    address = limits.until(url, "waiting for the receiver to listen")
    dispatcher = Dispatcher(Config(url=address, secret=secret, timeout=2, deadline=_DEADLINE))
    stage = Stage(address, dispatcher, folder, programs)

    def workers() -> int | None:
        stage.check()
        alive = dispatcher.ping().workers
        return alive if alive == PROCESSES else None

    limits.until(workers, "waiting for the worker processes")
    return stage


def _end(programs: Sequence[Program]) -> None:
    for program in programs:
        program.process.terminate()
    end = time.monotonic() + _PATIENCE
    for program in programs:
        try:
            program.process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            program.process.kill()
            program.process.wait()
