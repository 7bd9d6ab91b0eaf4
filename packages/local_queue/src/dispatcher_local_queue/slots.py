"""Memory that a supervisor shares with its workers: what runs until when, and how runs ended.

The memory has no name in any file system, so a killed supervisor leaves nothing behind.
"""

import mmap
import struct
import tempfile
from collections import Counter
from dataclasses import dataclass
from typing import IO, get_args

from dispatcher_core.status import JobState

__all__ = ["Run", "Slots", "anonymous_file"]

_DEADLINE = struct.Struct("q")
_REST = struct.Struct("qq")
_STATES = get_args(JobState)
_COUNTS = struct.Struct(f"{len(_STATES)}q")
_COUNT = struct.Struct("q")
_COUNTS_AT = _DEADLINE.size + _REST.size
_SLOT = _COUNTS_AT + _COUNTS.size
_NO_RETRY = -1


def anonymous_file(slots: int) -> IO[bytes]:
    """A file without a name, big enough for so many slots."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller keeps it
    file.truncate(slots * _SLOT)
    return file


@dataclass(frozen=True, slots=True)
class Run:
    """A run that has a deadline.

    Attributes:
        deadline_ns: when it is to be killed, on the monotonic clock.
        token: of the claim.
        retry_ms: milliseconds until its next try if it is killed, None for no other try.
    """

    deadline_ns: int
    token: int
    retry_ms: int | None


class Slots:
    """One slot for each worker process, and then for the one that replaces it: one writer each.

    Args:
        descriptor: of the shared file.
    """

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, 0)

    def post(self, slot: int, run: Run) -> None:
        """Tell the supervisor what runs. The deadline comes last: it makes the rest count."""
        self.clear(slot)
        retry = _NO_RETRY if run.retry_ms is None else run.retry_ms
        _REST.pack_into(self._memory, slot * _SLOT + _DEADLINE.size, run.token, retry)
        _DEADLINE.pack_into(self._memory, slot * _SLOT, run.deadline_ns)

    def clear(self, slot: int) -> None:
        """Tell the supervisor that nothing runs."""
        _DEADLINE.pack_into(self._memory, slot * _SLOT, 0)

    def read(self, slot: int) -> Run | None:
        """What runs in the slot, None for nothing."""
        (deadline,) = _DEADLINE.unpack_from(self._memory, slot * _SLOT)
        token, retry = _REST.unpack_from(self._memory, slot * _SLOT + _DEADLINE.size)
        (again,) = _DEADLINE.unpack_from(self._memory, slot * _SLOT)
        if not deadline or deadline != again:  # between two runs: look again later
            return None
        return Run(deadline, token, None if retry == _NO_RETRY else retry)

    def count(self, slot: int, state: JobState) -> None:
        """Count a run that left its job in this state."""
        place = slot * _SLOT + _COUNTS_AT + _STATES.index(state) * _COUNT.size
        (before,) = _COUNT.unpack_from(self._memory, place)
        _COUNT.pack_into(self._memory, place, before + 1)

    def counts(self) -> Counter[str]:
        """How many runs ended in which state, whatever became of the processes that ran them."""
        total: Counter[str] = Counter()
        for start in range(_COUNTS_AT, len(self._memory), _SLOT):
            counts = _COUNTS.unpack_from(self._memory, start)
            total.update(dict(zip(_STATES, counts, strict=True)))
        return total
