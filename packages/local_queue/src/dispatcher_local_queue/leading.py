"""A lock on a file that is only ever tried: who has it does what one alone should do."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import lock_descriptor, unlock_descriptor

__all__ = ["leading"]


@contextmanager
def leading(path: Path) -> Iterator[bool]:
    """Whether this process got the lock of this file, without waiting, for the block.

    Raises:
        OSError: the file cannot be opened.
    """
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    leads = False
    try:
        leads = lock_descriptor(descriptor, blocking=False)
        yield leads
    finally:
        if leads:
            unlock_descriptor(descriptor)  # a fork made meanwhile has the file open too
        os.close(descriptor)
