"""Waiting until SQLite's locks are free.

SQLite's own waiting starves processes: it sleeps longer and longer, and who came last gets the
lock. Short and random sleeps do not. But they also leave the lock unused for as long as everybody
sleeps, and it is held for less time than the shortest sleep takes. So of all who wait for it one,
of all processes, does not sleep.
"""

import os
import random
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from .leading import leading

__all__ = ["patiently", "taking_turns"]

T = TypeVar("T")

_PATIENCE = 5.0  # seconds
_SLEEP = (0.0001, 0.0004)
_SLEEPLESS = 0.001  # seconds: a lock that is held for longer is waiting for the disk


def patiently(act: Callable[[], T]) -> T:
    """What ``act`` gives once nobody else is in its way.

    Raises:
        sqlite3.OperationalError: somebody has been for five seconds, or it fails by itself.
    """
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            return act()
        except sqlite3.OperationalError as error:
            if not _is_busy(error) or time.monotonic() > end:
                raise
        time.sleep(random.uniform(*_SLEEP))


def taking_turns(turn: Path, act: Callable[[], T]) -> T:
    """The same for what takes the write lock, with one of those who wait not sleeping.

    Args:
        turn: a file that this one holds a lock on. Without it all sleep.
        act: what takes the write lock. It was tried already: that is the shortest way.

    Raises:
        sqlite3.OperationalError: others have been in the way for five seconds, or it fails by
            itself.
    """
    return patiently(lambda: _in_turn(turn, act))


def _in_turn(turn: Path, act: Callable[[], T]) -> T:
    done: list[T] = []
    with suppress(OSError), leading(turn) as first:  # the file's folder may be gone
        if first:
            done.append(_sleepless(act))
    return done[0] if done else act()


def _sleepless(act: Callable[[], T]) -> T:
    end = time.monotonic() + _SLEEPLESS
    while True:
        try:
            return act()
        except sqlite3.OperationalError as error:
            if not _is_busy(error) or time.monotonic() > end:
                raise
        os.sched_yield()


def _is_busy(error: sqlite3.Error) -> bool:
    return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
