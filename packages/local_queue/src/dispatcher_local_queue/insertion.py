"""New rows of the job table, and the one namespace of ids of jobs and batches."""

import json
import math
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache

from dispatcher_core.errors import IdReused
from dispatcher_core.jsontext import dump
from dispatcher_core.wire import JobMessage

from .checkpoint import pages_for

__all__ = [
    "INSERT_ONE",
    "Row",
    "insert_all",
    "insert_unless_known",
    "insertion",
    "new_callback",
    "new_member",
    "new_row",
    "pages_of",
]

Row = tuple[*tuple[object, ...], str]
"""The values of a job's columns. The id comes first, the payload last."""

_COLUMNS = "id, name, queue, priority, state, available_at, created_at, trace, payload"
_MEMBER_COLUMNS = (
    "id, name, queue, priority, state, available_at, created_at, trace, batch_id, callback_delay,"
    " payload"
)
_WIDTH = _COLUMNS.count(",") + 1
_AT_ONCE = 100  # rows: more gains nothing, and SQLite has a limit on values
_TAKEN = """
SELECT new.value FROM json_each(?) AS new
WHERE EXISTS (SELECT 1 FROM job WHERE job.id = new.value AND job.seq <= ?)
   OR EXISTS (SELECT 1 FROM accepted_batch WHERE accepted_batch.id = new.value)
"""


def new_row(job: JobMessage, now: int) -> Row:
    """The row of a job.

    Args:
        job: the job.
        now: the time, in milliseconds since 1970.
    """
    delay = math.ceil(job.delay * 1000)
    return (
        job.id,
        job.job,
        job.queue,
        job.priority,
        "scheduled" if delay else "queued",
        now + delay,
        now,
        None if job.trace is None else dump(job.trace),
        dump(job.payload),
    )


def new_member(job: JobMessage, now: int, batch_id: str | None) -> Row:
    """The row of a job of a batch."""
    row = new_row(job, now)
    return (*row[:-1], batch_id, None, row[-1])


def new_callback(job: JobMessage, now: int, batch_id: str) -> Row:
    """The row of a job that waits until its batch makes it due."""
    row = new_row(job, now)
    facts = [*row[:-1], batch_id, math.ceil(job.delay * 1000)]
    facts[4:6] = "scheduled", None
    return (*tuple(facts), row[-1])


def pages_of(rows: Iterable[Row]) -> int:
    """About how many pages it takes to write the rows."""
    return pages_for(sum(map(_size, rows)))


def insertion(rows: Sequence[Row]) -> tuple[str, Sequence[object]]:
    """One statement that inserts those rows whose ids are not known, and its values.

    One for each row takes half as long again, and hands the interpreter's lock around.
    """
    values = rows[0] if len(rows) == 1 else [value for row in rows for value in row]
    return _statement(len(rows), len(rows[0])), values


def _size(row: Row) -> int:
    return 256 + len(row[-1])


def _repeated(rows: Sequence[Row]) -> str:
    [(twice, _)] = Counter(str(row[0]) for row in rows).most_common(1)
    return twice


@cache
def _statement(rows: int, width: int) -> str:
    columns = _COLUMNS if width == _WIDTH else _MEMBER_COLUMNS
    values = ", ".join([f"({', '.join('?' * width)})"] * rows)
    return f"INSERT INTO job ({columns}) VALUES {values} ON CONFLICT (id) DO NOTHING"


def insert_unless_known(connection: sqlite3.Connection, rows: Sequence[Row]) -> int:
    """Insert those whose ids are not known, any number of them, and tell how many."""
    parts = (rows[start : start + _AT_ONCE] for start in range(0, len(rows), _AT_ONCE))
    return sum(connection.execute(*insertion(part)).rowcount for part in parts)


def insert_all(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Insert all of any number of rows.

    Raises:
        IdReused: an id is known already, as that of a job or a batch.
    """
    (last,) = connection.execute("SELECT coalesce(max(seq), 0) FROM job").fetchone()
    if insert_unless_known(connection, rows) != len(rows):
        ids = json.dumps([row[0] for row in rows])
        taken = connection.execute(_TAKEN, (ids, last)).fetchone()
        raise IdReused(taken[0] if taken else _repeated(rows))


INSERT_ONE = _statement(1, _WIDTH)
"""Inserts one job, unless its id is known; its values are a row of :func:`new_row`."""
