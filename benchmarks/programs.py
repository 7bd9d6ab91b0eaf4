"""The programs that the benchmarks start: gunicorn with an application, and workers."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

__all__ = ["HERE", "RECEIVER", "SECRET", "environment", "served"]

HERE = Path(__file__).resolve().parent
RECEIVER = "dispatcher_wsgi_receiver:create_app()"
SECRET = "benchmark-0123456789-abcdefghij"


def environment(queue: Path) -> dict[str, str]:
    """The environment of a program that uses the queue in this file."""
    return {
        **os.environ,
        "DISPATCHER_QUEUE_URL": f"sqlite:///{queue}",
        "DISPATCHER_MODULES": "cases",
        "DISPATCHER_IS_BACKEND": "true",
        "DISPATCHER_BACKEND_SECRET": SECRET,
    }


@contextmanager
def served(
    place: Path, app: str = RECEIVER, *, processes: int = 2, more: Mapping[str, str] | None = None
) -> Iterator[str]:
    """An application under gunicorn, with four threads a process, and its url.

    Args:
        place: the folder that it runs in, with its queue.
        app: what is served.
        processes: how many there are of it.
        more: what it has in its environment besides.
    """
    for source in ("cases.py", "dispatch_apps.py"):
        shutil.copy(HERE / source, place)  # here, a queue.py beside them hides the standard one
    log = place / f"{re.sub('[^a-z]', '-', app)}.log"
    command = (
        *("gunicorn", app, "--bind", "127.0.0.1:0", "--worker-class", "gthread"),
        *("--workers", str(processes), "--threads", "4", "--keep-alive", "60"),
        *("--no-control-socket", "--log-file", str(log)),
    )
    server = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=place,
        env={**environment(place / "queue.sqlite3"), **(more or {})},
    )
    try:
        yield _listening_at(log, processes)
    finally:
        server.terminate()
        server.wait()


def _listening_at(log: Path, processes: int) -> str:
    deadline = time.monotonic() + 20
    while not log.exists() or log.read_text().count("Booting worker") < processes:
        assert time.monotonic() < deadline, "gunicorn did not start"
        time.sleep(0.02)
    match = re.search(r"Listening at: (\S+)", log.read_text())
    assert match
    return match[1]
