"""Writes SQLite's log back into the database, so that it stays small.

SQLite 3.7.0 to 3.51.2 can lose committed pages when a checkpoint and a write race
(https://sqlite.org/wal.html, "the WAL-reset bug"). So none of our connections checkpoints by
itself; here one process at a time does, while it holds the write lock on another connection.
It only ever copies what no reader needs (PASSIVE), so it makes nobody wait for readers.
"""

import sqlite3

__all__ = ["PAGES_BETWEEN", "PAGE_BYTES", "USUAL_PAGES", "checkpoint", "pages_for"]

PAGES_BETWEEN = 2000  # a log of about 4 MiB, as SQLite itself lets it grow
PAGE_BYTES = 2048  # half of what is usual: every commit writes and sums up whole pages
USUAL_PAGES = 4  # what putting, claiming or ending one job writes


def pages_for(characters: int) -> int:
    """About how many pages it takes to write a job with texts of so many characters."""
    return USUAL_PAGES + characters // PAGE_BYTES


def checkpoint(writer: sqlite3.Connection, other: sqlite3.Connection) -> None:
    """Copy the log into the database.

    Args:
        writer: a connection in a write transaction, which keeps every other writer out.
        other: another connection, in no transaction.
    """
    if not writer.in_transaction:
        raise ValueError("a checkpoint needs the write lock")
    other.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
