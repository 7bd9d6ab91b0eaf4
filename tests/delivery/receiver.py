"""gunicorn with the receiver, whose worker processes can be killed (Linux: /proc and pidfd)."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Self

__all__ = ["SECRET", "Receiver"]

SECRET = "kills-0123456789-abcdefghij-klmno"
_WORKERS = 4
_THREADS = 4  # of each
_START = 60.0  # seconds
_STOP = 30.0  # seconds

_JOBS = """\
from dispatcher_core import job

@job("store")
def store(number: int) -> None: ...
"""
_SETTINGS = """
wsgi_app = "dispatcher_wsgi_receiver:create_app()"
bind = "127.0.0.1:0"
worker_class = "gthread"
workers = {workers}
threads = {threads}
keepalive = 75
control_socket_disable = True


def post_worker_init(worker):
    with open("serving", "a") as file:
        print(worker.pid, file=file)
"""
_OTHERS = re.compile("DISPATCHER|GUNICORN|PYTHON|APP_ENV")


@dataclass(frozen=True, slots=True)
class Receiver:
    """The receiver, running.

    Attributes:
        folder: where its files lie.
        process: gunicorn's first process, which starts the workers, and others for dead ones.
    """

    folder: Path
    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, folder: Path) -> Self:
        """Start it in an empty folder; it listens by then."""
        (folder / "jobs.py").write_text(_JOBS)
        (folder / "gunicorn.conf.py").write_text(
            _SETTINGS.format(workers=_WORKERS, threads=_THREADS)
        )
        inherited = {k: v for k, v in os.environ.items() if not _OTHERS.match(k)}
        settings = {
            "DISPATCHER_IS_BACKEND": "true",
            "DISPATCHER_MODULES": "jobs",
            "DISPATCHER_BACKEND_SECRET": SECRET,
            "DISPATCHER_QUEUE_URL": "sqlite:///queue.sqlite3",
        }
        with (folder / "gunicorn.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn"],
                cwd=folder,
                env=inherited | settings,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return cls(folder, process)

    @property
    def database(self) -> Path:
        """The queue's file."""
        return self.folder / "queue.sqlite3"

    def url(self) -> str:
        """Where it listens, as soon as each of its workers serves."""
        deadline = time.monotonic() + _START
        while len(self._serving()) < _WORKERS:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"gunicorn did not start:\n{self._log()}")
            time.sleep(0.02)
        return re.findall(r"Listening at: (\S+)", self._log())[0]

    def kill_a_worker(self, random: Random) -> None:
        """Kill a worker that serves, as soon as there is one."""
        while self.process.poll() is None:
            workers = self._serving()
            if workers and self._kill(random.choice(workers)):
                return
            time.sleep(0.001)
        raise RuntimeError(f"gunicorn ended by itself, with {self.process.returncode}")

    def stop(self) -> int:
        """Ask it to stop; its exit code. It is killed if it takes longer."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(_STOP)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def _log(self) -> str:
        return (self.folder / "gunicorn.log").read_text()

    def _serving(self) -> Sequence[int]:
        """The workers that have come so far as to serve."""
        with suppress(OSError):
            told = (self.folder / "serving").read_text("ascii").split()
            return [pid for pid in self._workers() if str(pid) in told]
        return ()

    def _workers(self) -> Sequence[int]:
        pid = self.process.pid
        with suppress(OSError):
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii")
            return [int(child) for child in children.split()]
        return ()

    def _kill(self, pid: int) -> bool:
        """Kill a child of gunicorn; False if it is none (any more)."""
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return False
        try:
            # Who is a child now is who the handle stands for: no other can come between.
            if pid not in self._workers():
                return False
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        except ProcessLookupError:
            return False
        finally:
            os.close(handle)
        return True
