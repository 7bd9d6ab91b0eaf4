"""A queue in a folder of its own, an application, and real worker processes."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dispatcher_core import JobMessage, JobStatus
from dispatcher_core.names import new_id
from dispatcher_local_queue import SQLiteQueue
from dispatcher_local_queue.claims import Claim, Claims
from dispatcher_local_queue.database import Database
from dispatcher_local_queue.liveness import new_life_id
from dispatcher_local_queue.registry import KnownWorker, Registry
from dispatcher_local_queue.wakeup import Bells

APPLICATIONS = Path(__file__).parent / "applications"
PATIENCE = 20.0  # seconds that a slow machine may take


def poll_until(condition: Callable[[], Any], timeout: float = PATIENCE) -> Any:
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, f"it did not come true within {timeout} s"
        time.sleep(0.005)
    return found


def make_message(
    job: str = "add",
    payload: Mapping[str, object] | None = None,
    *,
    id: str | None = None,
    queue: str = "default",
    delay: float = 0.0,
    priority: int = 0,
    trace: dict[str, str] | None = None,
) -> JobMessage:
    known = dict(payload or {})
    return JobMessage(
        id=id or new_id(),
        job=job,
        payload=known,
        queue=queue,
        delay=delay,
        priority=priority,
        trace=trace,
    )


@dataclass(frozen=True, slots=True)
class Jobs:
    """The jobs of a queue: puts them, and looks at what becomes of them.

    Attributes:
        queue: the queue.
        database: its file.
    """

    queue: SQLiteQueue
    database: Database

    def put(self, job: str = "add", payload: Mapping[str, object] | None = None, **more) -> str:
        """Put a job and tell its id."""
        message = make_message(job, payload, **more)
        assert self.queue.put(message) is True
        return message.id

    def status(self, id: str) -> JobStatus:
        status = self.queue.find_job(id)
        assert status is not None
        return status

    def reached(self, id: str, *states: str, timeout: float = PATIENCE) -> JobStatus:
        """The job once it is in one of these states."""
        poll_until(lambda: self.status(id).state in states, timeout)
        return self.status(id)

    def ended(self, id: str, timeout: float = PATIENCE) -> JobStatus:
        """The job once it is finished."""
        return self.reached(id, "succeeded", "failed", "cancelled", timeout=timeout)

    def row(self, id: str) -> dict[str, Any]:
        """Everything that the table has of a job."""
        with self.database.read() as connection:
            cursor = connection.execute("SELECT * FROM job WHERE id = ?", (id,))
            names = [each[0] for each in cursor.description]
            return dict(zip(names, cursor.fetchone(), strict=True))

    def change(self, id: str, **columns: object) -> None:
        """Set columns of a job, as if its past had been another one."""
        settings = ", ".join(f"{name} = :{name}" for name in columns)
        with self.database.write() as connection:
            connection.execute(f"UPDATE job SET {settings} WHERE id = :id", columns | {"id": id})

    def workers(self) -> list[KnownWorker]:
        return Registry(self.database).workers()


@dataclass(frozen=True, slots=True)
class Work:
    """A ``dispatcher work`` that runs.

    Attributes:
        process: its supervisor.
        log: what it and its workers print to standard error.
        jobs: the jobs of its queue.
    """

    process: subprocess.Popen
    log: Path
    jobs: Jobs

    @property
    def text(self) -> str:
        return self.log.read_text("utf-8")

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, timeout: float = PATIENCE) -> int:
        """Its exit code, once it has ended."""
        return self.process.wait(timeout)

    def stop(self) -> int:
        """Ask it to stop, and tell its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def end(self) -> None:
        """End it whatever it does, and what it leaves."""
        self.signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.wait(2.0)
        self.process.kill()
        self.process.wait()
        with suppress(Exception):  # a test may have spoilt the file
            for worker in self.jobs.workers():
                if not worker.dead():
                    os.killpg(worker.pid, signal.SIGKILL)


@pytest.fixture
def wait_until() -> Callable[..., Any]:
    """Polls a condition until it is true, and tells what it gave."""
    return poll_until


@pytest.fixture
def message() -> Callable[..., JobMessage]:
    """Makes a job as it comes over the wire."""
    return make_message


@pytest.fixture
def path(tmp_path) -> Path:
    """The queue's file, which nobody has made yet."""
    return tmp_path / "queue.sqlite3"


@pytest.fixture
def database(path) -> Iterator[Database]:
    """The queue's file, as a worker opens it."""
    database = Database(path, durable=False)
    yield database
    database.close()


@pytest.fixture
def queue(path) -> Iterator[SQLiteQueue]:
    """The queue, as a receiver has it."""
    queue = SQLiteQueue(path)
    yield queue
    queue.close()


@pytest.fixture
def jobs(queue, database) -> Jobs:
    """The queue's jobs."""
    return Jobs(queue, database)


@pytest.fixture
def registry(database) -> Registry:
    """The queue's workers."""
    return Registry(database)


@pytest.fixture
def bells(database) -> Iterator[Bells]:
    """The queue's pipes."""
    bells = Bells(database.files)
    yield bells
    bells.close()


@pytest.fixture
def enter(database, registry, bells) -> Callable[..., Claims]:
    """Enters a worker into the registry and gives what it claims with."""

    def enter(worker_id: str | None = None, supervisor_id: str = "boss") -> Claims:
        id = worker_id or new_life_id()
        registry.enter(id, supervisor_id, os.getpid())
        return Claims(database, id, bells)

    return enter


@pytest.fixture
def claims(enter) -> Claims:
    """What the one worker ``ada`` claims with."""
    return enter("ada")


@pytest.fixture
def claimed(jobs, claims) -> Callable[..., Claim]:
    """Puts a job and claims it for ``ada``."""

    def claimed(*arguments, **options) -> Claim:
        id = jobs.put(*arguments, **options)
        claim = claims.claim([options.get("queue", "default")])
        assert claim is not None and claim.id == id
        return claim

    return claimed


@pytest.fixture
def application(tmp_path) -> Callable[[str], Path]:
    """Writes the module ``shop`` and tells the folder to name as ``--app-dir``."""

    def write(text: str) -> Path:
        folder = tmp_path / "application"
        folder.mkdir()
        (folder / "shop.py").write_text(text, "utf-8")
        return folder

    return write


@pytest.fixture
def environment(path) -> dict[str, str]:
    """An environment that names the queue and the application ``shop``."""
    kept = {name: value for name, value in os.environ.items() if "DISPATCHER" not in name}
    return kept | {
        "DISPATCHER_QUEUE_URL": f"sqlite:///{path}",
        "DISPATCHER_MODULES": "shop",
        "PYTHONWARNINGS": "error",
    }


@pytest.fixture
def dispatcher(tmp_path, environment) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the program ``dispatcher`` until it ends."""

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "dispatcher_core", *arguments],
            cwd=tmp_path,
            env=environment | more,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


@pytest.fixture
def start_work(tmp_path, environment, jobs) -> Iterator[Callable[..., Work]]:
    """Starts ``dispatcher work`` and waits until it is ready; ends it after the test."""
    with ExitStack() as stack:

        def start(
            *arguments: str,
            app_dir: Path = APPLICATIONS,
            until: str = ": ready",
            umask: int = -1,
            **more: str,
        ) -> Work:
            log = tmp_path / f"work-{new_life_id()}.log"
            options = [*arguments, "--app-dir", str(app_dir)]
            with log.open("wb") as stderr:
                process = subprocess.Popen(
                    [sys.executable, "-m", "dispatcher_core", "work", *options],
                    cwd=tmp_path,
                    env=environment | more,
                    stdin=subprocess.DEVNULL,
                    stdout=stderr,
                    stderr=stderr,
                    umask=umask,
                )
            work = Work(process, log, jobs)
            stack.callback(work.end)
            poll_until(lambda: until in work.text or process.poll() is not None)
            assert until in work.text, work.text
            return work

        yield start


@pytest.fixture
def script(environment) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a Python program with pipes to talk over; ends it after the test."""
    with ExitStack() as stack:

        def start(text: str, *arguments: object) -> subprocess.Popen[str]:
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", text, *map(str, arguments)],
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            stack.callback(process.kill)
            return process

        yield start


@pytest.fixture
def doomed_child() -> Iterator[Callable[[int], int]]:
    """Takes pids of children that a test leaves behind, and kills them in the end."""
    pids: list[int] = []

    def keep(pid: int) -> int:
        pids.append(pid)
        return pid

    yield keep
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def plan(database) -> Callable[..., str]:
    """How SQLite goes about a statement: the names of the indexes it searches."""

    def plan(statement: str, *values: object) -> str:
        with database.read() as connection:
            rows: list[tuple] = connection.execute(
                f"EXPLAIN QUERY PLAN {statement}", values
            ).fetchall()
        return "\n".join(row[-1] for row in rows)

    return plan


@pytest.fixture
def foreign(path) -> Path:
    """A SQLite file of another program, where the queue's ought to be."""
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE customer (name TEXT)")
    connection.commit()
    connection.close()
    return path
