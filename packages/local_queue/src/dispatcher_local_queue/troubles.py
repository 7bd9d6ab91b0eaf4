"""What keeps SQLite from its file, as errors that say what to do."""

import errno
import os
import pwd
import sqlite3
import stat
from pathlib import Path

from dispatcher_core.errors import QueueError, QueueUnavailable

__all__ = ["explained", "refused"]

_LOCKED = "is locked by others for too long: try again"
_CLOSED = "let this user read and write it, what lies beside it, and its folder"
_FREE = "free some space"
_ANEW = "move it away, with its -wal and -shm, to begin a new one"
_MORE_FILES = "let this process open more files (ulimit -n)"
_OS_ADVICE = {
    errno.ENOSPC: _FREE,
    errno.EDQUOT: _FREE,
    errno.EMFILE: _MORE_FILES,
    errno.ENFILE: _MORE_FILES,
}
_RETRIED_LATER = {
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_PROTOCOL: _LOCKED,
    sqlite3.SQLITE_FULL: f"cannot grow: the disk is full: {_FREE}",
    sqlite3.SQLITE_IOERR: f"cannot be read or written: the disk is full or failing: {_FREE}",
    sqlite3.SQLITE_READONLY: f"is read-only: {_CLOSED}",
    sqlite3.SQLITE_PERM: f"is not accessible: {_CLOSED}",
    sqlite3.SQLITE_CANTOPEN: f"cannot be opened: {_CLOSED}",
}
_SHUT = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)
_BROKEN = {
    sqlite3.SQLITE_NOTADB: f"is no SQLite database: {_ANEW}",
    sqlite3.SQLITE_CORRUPT: f"is damaged: restore it, or {_ANEW}",
}


def explained(error: sqlite3.Error, path: Path) -> QueueError:
    """What SQLite complains of, and what to do about it."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _BROKEN:
        return QueueError(f"the queue's file {path} {_BROKEN[code]}")
    if code in _SHUT and _is_on_read_only_disk(path):
        return QueueUnavailable(
            f"the queue's file {path} is on a disk that is mounted read-only: mount it for"
            " writing, or set DISPATCHER_QUEUE_URL to another place"
        )
    if code in _RETRIED_LATER:
        return QueueUnavailable(f"the queue's file {path} {_RETRIED_LATER[code]}{_owners(path)}")
    return QueueError(f"the queue's file {path} fails: {error}")


def refused(error: OSError, path: Path) -> QueueUnavailable:
    """Why the system does not let us make or open the file, and what to do about it."""
    advice = _OS_ADVICE.get(error.errno or 0, "let this user write to its folder")
    return QueueUnavailable(
        f"the queue's file {path} cannot be made or opened: {error.strerror}"
        f"{_owners(path.parent)}; {advice}, or set DISPATCHER_QUEUE_URL to another place"
    )


def _is_on_read_only_disk(path: Path) -> bool:
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def _owners(path: Path) -> str:
    """Who we are and whose the path is, or as much of it as can be seen, where these differ."""
    try:
        owner = path.stat()
    except OSError:
        return "" if path == path.parent else _owners(path.parent)
    if owner.st_uid == os.geteuid():
        return ""
    return (
        f" (this process runs as {_user(os.geteuid())}; {path} belongs to"
        f" {_user(owner.st_uid)}, mode {stat.S_IMODE(owner.st_mode):o})"
    )


def _user(number: int) -> str:
    try:
        return f"{pwd.getpwuid(number).pw_name}, uid {number}"
    except KeyError:
        return f"uid {number}"
