"""The whole path on real parts: gunicorn, worker processes, and an application that dispatches."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SECRET = "round-trip-0123456789-abcdefghij"

JOBS = """
from dispatcher_core import job

@job("square")
def square(number: int) -> int:
    return number * number
"""

APP_A = """
import json
from concurrent.futures import ThreadPoolExecutor
from dispatcher_core import Dispatcher

dispatcher = Dispatcher.from_env()

def round_trip(number):
    result = dispatcher.dispatch("square", {"number": number}).raise_for_error()
    status = dispatcher.wait(result.id, timeout=60)
    return number, status.state, status.result

with ThreadPoolExecutor(8) as threads:
    print(json.dumps(list(threads.map(round_trip, range(200)))))
"""


@contextmanager
def program(folder: Path, log: str, *command: str, **settings: str) -> Iterator[Path]:
    """A program that runs while the block does; its output is in the file."""
    output = folder / log
    with output.open("wb") as file:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder), **settings},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        try:
            yield output
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            finally:
                process.kill()
    assert process.returncode == 0, output.read_text()


def found_in(output: Path, pattern: str) -> str:
    """What the first group of the pattern matches, as soon as the program has printed it."""
    deadline = time.monotonic() + 30
    while not (match := re.search(pattern, output.read_text())):
        assert time.monotonic() < deadline, output.read_text()
        time.sleep(0.02)
    return match[1]


def dispatcher(*arguments: str) -> tuple[str, ...]:
    """The command line of ``dispatcher``."""
    return sys.executable, "-m", "dispatcher_core", *arguments


def test_every_job_of_eight_threads_comes_back_with_its_own_result(tmp_path: Path) -> None:
    """200 jobs by 8 threads through gunicorn (2 x 4) and 2 workers all succeed."""
    (tmp_path / "jobs.py").write_text(JOBS)
    backend = {
        "DISPATCHER_IS_BACKEND": "true",
        "DISPATCHER_MODULES": "jobs",
        "DISPATCHER_BACKEND_SECRET": SECRET,
    }
    gunicorn = (
        *(sys.executable, "-m", "gunicorn", "dispatcher_wsgi_receiver:create_app()"),
        *("--bind", "127.0.0.1:0", "--workers", "2", "--threads", "4"),
    )
    with (
        program(tmp_path, "receiver.log", *gunicorn, **backend) as receiver,
        program(tmp_path, "worker.log", *dispatcher("work", "--processes", "2"), **backend) as log,
    ):
        url = found_in(receiver, r"Listening at: (http://127\.0\.0\.1:\d+)")
        found_in(log, r"(ready)\n")
        answer = subprocess.run(
            (sys.executable, "-c", APP_A),
            env={
                **os.environ,
                "DISPATCHER_BACKEND_URL": url,
                "DISPATCHER_BACKEND_SECRET": SECRET,
            },
            cwd=tmp_path,
            capture_output=True,
            check=True,
            timeout=120,
        )
    assert json.loads(answer.stdout) == [
        [number, "succeeded", number * number] for number in range(200)
    ]


def readme_block(name: str) -> str:
    """The block of the README after the comment of this name."""
    text = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
    match = re.search(rf"<!-- {re.escape(name)} -->\n```\w+\n(.*?)```", text, re.DOTALL)
    assert match, name
    return match[1]


@pytest.mark.parametrize("shown", ["succeeded welcome, user 7\n"])
def test_the_programs_of_the_readme_run_as_printed(tmp_path: Path, shown: str) -> None:
    """App A of the README prints what the README says that it prints."""
    app_a, app_b = tmp_path / "a", tmp_path / "b"
    for folder in (app_a, app_b):
        folder.mkdir()
    (app_b / "jobs.py").write_text(readme_block("app-b: jobs.py"))
    (app_b / ".env").write_text(readme_block("app-b: .env"))
    (app_a / "signup.py").write_text(readme_block("app-a: signup.py"))
    secret = subprocess.run(
        dispatcher("secret", "--show"), cwd=app_b, capture_output=True, text=True, check=True
    ).stdout.strip()
    with (
        program(app_b, "serve.log", *dispatcher("serve", "--port", "0")) as serve,
        program(app_b, "work.log", *dispatcher("work")),
    ):
        url = found_in(serve, r"(http://127\.0\.0\.1:\d+)")
        settings = readme_block("app-a: .env")
        settings = settings.replace("http://127.0.0.1:8000", url)
        settings = settings.replace("the-secret-that-app-b-has-shown", secret)
        (app_a / ".env").write_text(settings)
        answer = subprocess.run(
            (sys.executable, "signup.py"), cwd=app_a, capture_output=True, text=True, timeout=60
        )
    assert (answer.stdout, answer.stderr) == (shown, "")
