"""Memory that a supervisor shares with its workers: what runs, and until when it may.

The memory has no name in any file system, so a killed supervisor leaves nothing behind.
"""

import mmap
import struct
import tempfile
from dataclasses import dataclass
from typing import IO

__all__ = ["Run", "Slots", "anonymous_file"]

_DEADLINE = struct.Struct("q")
_REST = struct.Struct("qq")
_SLOT = _DEADLINE.size + _REST.size
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
    """One slot for each worker process. Each has one writer.

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
