"""Other queues that ``benchmarks/queue.py`` holds this one against.

Each runs as its own documentation says, with its default settings, two worker processes and
no stored results. Nothing here imports a peer: its jobs are put and run by processes of its own.
"""

import os
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

__all__ = ["PEERS", "Peer"]

PROGRAMS = Path(__file__).resolve().parent / "peer_programs"
RUNS = 3
# Seconds.
PAUSE = 0.005
STOP_LIMIT = 15
LIMIT = 180


@dataclass(frozen=True, slots=True)
class Broker:
    """Where a peer keeps its jobs.

    Attributes:
        url: what the peer's program connects to.
        ask: the integer that answers a query in the broker's own language.
    """

    url: str
    ask: Callable[[str], int]


@dataclass(frozen=True, slots=True)
class Processes:
    """Processes that run, and the file that they log into."""

    running: Sequence[subprocess.Popen[bytes]]
    log: Path

    def until(self, happened: Callable[[], bool]) -> None:
        """Poll until it happened.

        Raises:
            RuntimeError: it did not within ``LIMIT`` seconds, or a process ended before.
        """
        end = time.monotonic() + LIMIT
        while not happened():
            if any(process.poll() is not None for process in self.running):
                raise RuntimeError(f"a process ended too early:\n{self.log.read_text()}")
            if time.monotonic() > end:
                raise RuntimeError(f"not done after {LIMIT} seconds:\n{self.log.read_text()}")
            time.sleep(PAUSE)


@dataclass(frozen=True, slots=True)
class Peer:
    """Another queue.

    Attributes:
        name: what the table calls it.
        goal: the dispatcher is to be at least so many times as fast.
        count: how many jobs a run has.
        modules: what must be importable.
        broker: starts its broker in a folder.
        program: the module in ``peer_programs`` that has its jobs.
        pending: queries for the jobs that are not done. A job counts in one of them, and moves
            on to later ones only, so that none is missed between two queries.
        workers: the arguments of Python for each worker command; together two processes run jobs.
    """

    name: str
    goal: float
    count: int
    modules: Sequence[str]
    broker: Callable[[Path], AbstractContextManager[Broker]]
    program: str
    pending: Sequence[str]
    workers: Sequence[str]

    def rate(self, place: Path) -> float | None:
        """Jobs a second, the median of some runs in this folder.

        None where the peer or its broker is not installed.

        Raises:
            RuntimeError: a worker failed, or took too long.
            subprocess.SubprocessError: the jobs could not be put.
        """
        if not self.installed():
            return None
        folders = [place.resolve() / str(turn) for turn in range(RUNS)]
        return statistics.median(map(self.run, folders))

    def installed(self) -> bool:
        """Whether the peer and its broker are here."""
        if self.broker is redis_server and shutil.which("redis-server") is None:
            return False
        return all(find_spec(module) is not None for module in self.modules)

    def run(self, place: Path) -> float:
        """Jobs a second of one run, in a new folder."""
        place.mkdir()
        workers = [[sys.executable, *arguments.split()] for arguments in self.workers]
        with self.broker(place) as broker:
            environment = {"BENCHMARK_BROKER": broker.url, "PYTHONPATH": str(PROGRAMS)}
            self.enqueue(place, environment)
            with started(workers, place / "workers.log", environment) as processes:
                rate = self.drain(broker, processes)
        # A job that failed is gone from the queue as well.
        if "Traceback" in (log := processes.log.read_text()):
            raise RuntimeError(f"jobs failed:\n{log}")
        return rate

    def enqueue(self, place: Path, environment: Mapping[str, str]) -> None:
        """Put all jobs of a run."""
        subprocess.run(
            [sys.executable, PROGRAMS / "enqueue.py", self.program, str(self.count)],
            env={**os.environ, **environment},
            cwd=place,
            check=True,
            timeout=LIMIT,
        )

    def drain(self, broker: Broker, processes: Processes) -> float:
        """Jobs a second, from when some are first seen to be gone until none is left."""
        left = self.count

        def below(bound: int) -> bool:
            nonlocal left
            left = sum(map(broker.ask, self.pending))
            return left < bound

        processes.until(lambda: below(self.count))
        # Those that were done before the clock began do not count.
        timed, begun = left, time.perf_counter()
        processes.until(lambda: below(1))
        return timed / (time.perf_counter() - begun)


@contextmanager
def started(
    commands: Sequence[Sequence[str]], log: Path, environment: Mapping[str, str]
) -> Iterator[Processes]:
    """Processes in the log's folder, each with a group of its own, ended afterwards."""
    running: list[subprocess.Popen[bytes]] = []
    with log.open("ab") as output:
        try:
            for command in commands:
                process = subprocess.Popen(
                    command,
                    env={**os.environ, **environment},
                    cwd=log.parent,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
                running.append(process)
            yield Processes(running, log)
        finally:
            end(running)


def end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ask processes to end, and end by force what is left of them and their children."""
    for process in processes:
        process.terminate()
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_LIMIT)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(STOP_LIMIT)


@contextmanager
def sqlite_file(place: Path) -> Iterator[Broker]:
    """A file for a database, which the peer creates."""
    path = place / "jobs.sqlite3"
    with closing(sqlite3.connect(path, timeout=5, isolation_level=None)) as connection:
        yield Broker(str(path), lambda query: int(connection.execute(query).fetchone()[0]))


@contextmanager
def redis_server(place: Path) -> Iterator[Broker]:
    """A Redis of our own that keeps everything in memory."""
    port = free_port()
    settings = {"port": port, "bind": "127.0.0.1", "dir": place, "save": "", "appendonly": "no"}
    command = ["redis-server"]
    for name, value in settings.items():
        command += [f"--{name}", str(value)]
    with started([command], place / "redis.log", {}) as processes:
        processes.until(lambda: listens(port))
        with socket.create_connection(("127.0.0.1", port), timeout=STOP_LIMIT) as connection:
            yield Broker(f"redis://127.0.0.1:{port}/0", lambda query: redis_ask(connection, query))


def redis_ask(connection: socket.socket, query: str) -> int:
    """The integer that answers a command.

    Inline commands and integer replies: https://redis.io/docs/latest/develop/reference/protocol-spec/
    """
    connection.sendall(f"{query}\r\n".encode())
    answer = b""
    while not answer.endswith(b"\r\n"):
        answer += connection.recv(4096)
    return int(answer.removeprefix(b":"))


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def listens(port: int) -> bool:
    """Whether something accepts connections on this port."""
    with suppress(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=STOP_LIMIT).close()
        return True
    return False


PEERS: Sequence[Peer] = (
    Peer(
        name="Huey (SQLite)",
        goal=2.0,
        count=10_000,
        modules=["huey"],
        broker=sqlite_file,
        program="with_huey",
        # Huey deletes a job when a worker takes it: the last ones may still run for a moment.
        pending=["SELECT count(*) FROM task"],
        workers=["-m huey.bin.huey_consumer with_huey.huey -k process -w 2 -q"],
    ),
    Peer(
        name="RQ",
        goal=10.0,
        count=3_000,
        modules=["rq", "redis"],
        broker=redis_server,
        program="with_rq",
        pending=[
            "LLEN rq:queue:default",
            "LLEN rq:queue:default:intermediate",
            "ZCARD rq:wip:default",
        ],
        # The default worker, rq.Worker, forks a process for each job.
        workers=["-m rq.cli worker -c with_rq -q"] * 2,
    ),
    Peer(
        name="Dramatiq (Redis)",
        goal=10.0,
        count=10_000,
        modules=["dramatiq", "redis"],
        broker=redis_server,
        program="with_dramatiq",
        # A message stays here until it is acknowledged.
        pending=["HLEN dramatiq:default.msgs"],
        workers=["-m dramatiq with_dramatiq --processes 2 --threads 1"],
    ),
    Peer(
        name="Celery (Redis)",
        goal=10.0,
        count=10_000,
        modules=["celery", "redis"],
        broker=redis_server,
        program="with_celery",
        pending=["LLEN celery", "HLEN unacked"],
        workers=["-m celery -A with_celery worker -P prefork --concurrency 2 -l ERROR"],
    ),
)
