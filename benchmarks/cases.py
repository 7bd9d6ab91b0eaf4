"""What ``benchmarks/queue.py`` puts into queues, and the raw SQLite that it is held against."""

import json
import os
import sqlite3
from importlib.resources import files
from pathlib import Path

from dispatcher_core import job
from dispatcher_core.names import new_id
from dispatcher_core.wire import JobMessage
from dispatcher_local_queue.checkpoint import PAGE_BYTES

INSERT = """
INSERT INTO job (id, name, queue, priority, state, available_at, created_at, payload)
VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING
"""


@job("noop")
def noop(number: int, text: str) -> None:
    """Does nothing."""


@job("whoami")
def whoami() -> int:
    """Tells which process runs it."""
    return os.getpid()


def messages(count: int) -> list[JobMessage]:
    """So many jobs that do nothing, with a payload of about 200 bytes."""
    return [message({"number": number, "text": "x" * 170}) for number in range(count)]


def message(payload: dict[str, object]) -> JobMessage:
    """One job that does nothing."""
    return JobMessage(
        id=new_id(),
        job="noop",
        payload=payload,
        queue="default",
        delay=0.0,
        priority=0,
        trace=None,
    )


def raw_row(job: JobMessage, state: str = "queued") -> tuple[object, ...]:
    """The row that one would insert for a job by hand."""
    return (
        *(job.id, job.job, job.queue, job.priority, state, 1, 1),
        json.dumps(job.payload),
    )


def raw_database(path: Path) -> sqlite3.Connection:
    """A new database with the schema, the indexes and the pragmas of the queue."""
    connection = raw_connection(path)
    connection.executescript((files("dispatcher_local_queue") / "schema.sql").read_text())
    return connection


def raw_connection(path: Path) -> sqlite3.Connection:
    """A connection with the pragmas of the queue."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
    connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA temp_store=MEMORY")
    return connection
