"""Who is alive: each process holds a lock on a file of its own until it dies.

The kernel drops the lock at death, so nobody needs a lease, a heartbeat or a clock, and a
process that is slow, stopped or suspended stays alive.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, lock_descriptor

__all__ = ["LifeLock", "birth_of", "dead", "gone", "group_runs", "new_life_id"]


def new_life_id() -> str:
    """A name for a worker or supervisor that is never used again."""
    return secrets.token_hex(8)


class LifeLock:
    """The lock that a process holds for as long as it lives. Keep the object.

    Args:
        path: the lock file, named after an id that is never used again.
    """

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._lock = FileLock(path, mode=0o600, fallback_to_soft=False)
        self._lock.acquire(timeout=5)
        self._inode = path.stat().st_ino

    def replaced(self) -> bool:
        """Whether somebody took the file away: then others no longer see us alive."""
        try:
            return os.stat(self._path).st_ino != self._inode  # noqa: PTH116 - after each job
        except FileNotFoundError:
            return True

    def release(self) -> None:
        """Remove the file and drop the lock, at a clean end."""
        Path(self._path).unlink(missing_ok=True)
        self._lock.release()


@contextmanager
def dead(path: Path) -> Iterator[bool]:
    """Whether the owner of a lock file is dead; while the block runs, nobody else finds out.

    A missing file says nothing, so it is not taken for a death. The probe never makes one.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        yield False
        return
    try:
        yield lock_descriptor(descriptor, blocking=False)
    finally:
        os.close(descriptor)


def birth_of(pid: int) -> str:
    """What tells the process from any other that ever had its pid; empty where it is gone.

    Boot, pid namespace and start time, from ``/proc`` (proc_pid_stat(5), field 22); empty
    too where there is no ``/proc``.
    """
    fields = _stat(pid)
    return f"{_machine()} {fields[19]}" if fields else ""


def gone(pid: int, birth: str) -> bool:
    """Whether the process of this pid and birth has certainly ended.

    It tells a dead owner from its lock, which a fork made in C may have inherited.
    """
    machine = birth.rpartition(" ")[0]
    return bool(machine) and machine == _machine() and birth_of(pid) != birth


def group_runs(group: int) -> bool:
    """Whether any process of a process group still runs.

    A killed process whose parent does not wait for it stays a member, but runs no more.
    """
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    pids = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    return not pids or any(_stat(pid)[2:3] == [str(group)] for pid in pids)


def _stat(pid: int) -> list[str]:
    """The fields of ``/proc/PID/stat`` from the third on; none where the process has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return []
    fields = text.rpartition(")")[2].split()
    return [] if fields[0] in "ZX" else fields


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""
