"""New rows of the job table, and the one namespace of ids of jobs and batches."""

import json
import math
import sqlite3
from collections.abc import Sequence
from functools import cache

from dispatcher_core.errors import IdReused
from dispatcher_core.jsontext import dump
from dispatcher_core.wire import JobMessage

from .checkpoint import PAGE_BYTES, USUAL_PAGES

__all__ = ["Row", "insert_all", "insert_unless_known", "insertion", "new_row", "pages_of"]

Row = tuple[*tuple[object, ...], str]
"""The values of :data:`_COLUMNS`; the payload comes last."""

_COLUMNS = (
    "id, name, queue, priority, state, available_at, created_at, batch_id,"
    " callback_delay, trace, payload"
)
_VALUES = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_TAKEN = """
SELECT new.value FROM json_each(?) AS new
WHERE EXISTS (SELECT 1 FROM job WHERE job.id = new.value AND job.seq <= ?)
   OR EXISTS (SELECT 1 FROM accepted_batch WHERE accepted_batch.id = new.value)
"""


def new_row(
    job: JobMessage, now: int, *, batch_id: str | None = None, callback: bool = False
) -> Row:
    """The row of a job.

    Args:
        job: the job.
        now: the time, in milliseconds since 1970.
        batch_id: the batch that it belongs to.
        callback: whether it waits until its batch makes it due.
    """
    delay = math.ceil(job.delay * 1000)
    return (
        job.id,
        job.job,
        job.queue,
        job.priority,
        "scheduled" if delay or callback else "queued",
        None if callback else now + delay,
        now,
        batch_id,
        delay if callback else None,
        None if job.trace is None else dump(job.trace),
        dump(job.payload),
    )


def pages_of(rows: Sequence[Row]) -> int:
    """About how many pages it takes to write the rows."""
    return USUAL_PAGES + sum(256 + len(row[-1]) for row in rows) // PAGE_BYTES


@cache
def insertion(count: int) -> str:
    """The statement that inserts so many rows, but for those whose ids are known already."""
    values = ", ".join([_VALUES] * count)
    return f"INSERT INTO job ({_COLUMNS}) VALUES {values} ON CONFLICT (id) DO NOTHING"


def insert_unless_known(connection: sqlite3.Connection, rows: Sequence[Row]) -> int:
    """Insert those whose ids are not known, any number of them, and tell how many."""
    before = connection.total_changes
    connection.executemany(insertion(1), rows)
    return connection.total_changes - before


def insert_all(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Insert all of any number of rows.

    Raises:
        IdReused: an id is known already, as that of a job or a batch.
    """
    (last,) = connection.execute("SELECT coalesce(max(seq), 0) FROM job").fetchone()
    if insert_unless_known(connection, rows) != len(rows):
        ids = json.dumps([row[0] for row in rows])
        (taken,) = connection.execute(_TAKEN, (ids, last)).fetchone()
        raise IdReused(taken)
