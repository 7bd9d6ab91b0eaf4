"""Kills processes, certainly the ones that are meant (Linux: ``/proc`` and pidfd)."""

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from dispatcher_local_queue.liveness import birth_of

__all__ = ["Kill", "Victim", "children_of", "identity"]


@dataclass(frozen=True, slots=True)
class Kill:
    """A process that was killed.

    Attributes:
        kind: what it was: ``worker``, ``supervisor`` or ``enqueuer``.
        process: its identity.
        at: when, on the monotonic clock in nanoseconds, just before the signal was sent.
        strike: what else was killed with it.
    """

    kind: str
    process: str
    at: int
    strike: str = ""


@dataclass(frozen=True, slots=True)
class Victim:
    """A process that is to be killed. Its handle stands for it even when its pid is used again.

    Attributes:
        kind: as in :class:`Kill`.
        process: its identity.
        handle: its pidfd, closed when it is killed.
    """

    kind: str
    process: str
    handle: int

    @classmethod
    def child_of(cls, parent: int, pid: int, kind: str) -> Self | None:
        """A living child of the parent; None if it is none (any more)."""
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return None
        # Whoever is a child now is who the handle stands for: no other can come between.
        if pid in children_of(parent) and birth_of(pid):
            return cls(kind, identity(pid), handle)
        os.close(handle)
        return None

    def kill(self, strike: str = "") -> Kill | None:
        """Kill it; None if it has gone before. Do it once."""
        made = Kill(self.kind, self.process, time.monotonic_ns(), strike)
        try:
            signal.pidfd_send_signal(self.handle, signal.SIGKILL)
        except ProcessLookupError:
            return None
        finally:
            os.close(self.handle)
        return made


def identity(pid: int) -> str:
    """Names a process, also when its pid is used again: pid and start time."""
    return f"{pid}-{birth_of(pid).rpartition(' ')[2]}"


def children_of(pid: int) -> Sequence[int]:
    """The processes that a process has started and not yet buried."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii")
    except OSError:
        return ()
    return [int(child) for child in text.split()]
