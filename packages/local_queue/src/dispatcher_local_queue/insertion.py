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

__all__ = ["Row", "insert_all", "insert_new", "insert_unless_known", "new_row", "pages_of"]

Row = tuple[*tuple[object, ...], str]
"""The values of :data:`_COLUMNS`; the payload comes last."""

_COLUMNS = (
    "id, fingerprint, name, queue, priority, state, available_at, created_at, batch_id,"
    " callback_delay, trace, payload"
)
_VALUES = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_TAKEN_BY_BATCH = """
SELECT batch.id FROM json_each(?) AS new JOIN accepted_batch AS batch ON batch.id = new.value
"""
_TAKEN_BY_JOB = """
SELECT job.id FROM json_each(?) AS new JOIN job ON job.id = new.value WHERE job.seq <= ?
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
        job.fingerprint,
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


def insert_new(connection: sqlite3.Connection, rows: Sequence[Row]) -> set[str]:
    """Insert those whose ids are not known, with one statement, and tell their ids.

    A call for each would hand the interpreter's lock around between waiting threads.

    Raises:
        IdReused: an id is that of a batch.
    """
    values = rows[0] if len(rows) == 1 else [value for row in rows for value in row]
    try:
        cursor = connection.execute(_statement(len(rows)), values)
    except sqlite3.IntegrityError as error:
        raise _refusal(connection, rows, error) from None
    if cursor.rowcount == len(rows):
        return {str(row[0]) for row in rows}
    # Numbers are given without a gap, so the last ones are the new rows.
    first = (cursor.lastrowid or 0) - cursor.rowcount
    if not cursor.rowcount:
        return set()
    return {new for (new,) in connection.execute("SELECT id FROM job WHERE seq > ?", (first,))}


def insert_unless_known(connection: sqlite3.Connection, rows: Sequence[Row]) -> int:
    """Insert those whose ids are not known, any number of them, and tell how many.

    Raises:
        IdReused: an id is that of a batch.
    """
    before = connection.total_changes
    try:
        connection.executemany(_statement(1), rows)
    except sqlite3.IntegrityError as error:
        raise _refusal(connection, rows, error) from None
    return connection.total_changes - before


def insert_all(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Insert all of any number of rows.

    Raises:
        IdReused: an id is known already, as that of a job or a batch.
    """
    (last,) = connection.execute("SELECT coalesce(max(seq), 0) FROM job").fetchone()
    if insert_unless_known(connection, rows) != len(rows):
        ids = json.dumps([row[0] for row in rows])
        (taken,) = connection.execute(_TAKEN_BY_JOB, (ids, last)).fetchone()
        raise IdReused(taken)


@cache
def _statement(count: int) -> str:
    values = ", ".join([_VALUES] * count)
    return f"INSERT INTO job ({_COLUMNS}) VALUES {values} ON CONFLICT (id) DO NOTHING"


def _refusal(
    connection: sqlite3.Connection, rows: Sequence[Row], error: sqlite3.IntegrityError
) -> Exception:
    """Which id the trigger refused: looking for them before each insertion takes longer."""
    ids = json.dumps([row[0] for row in rows])
    taken = connection.execute(_TAKEN_BY_BATCH, (ids,)).fetchone()
    return error if taken is None else IdReused(taken[0])
