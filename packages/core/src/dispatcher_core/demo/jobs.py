"""What the demo's other application runs, in the worker processes."""

import hashlib
import os
import time
from pathlib import Path

from ..context import current_job
from ..handlers import job

__all__ = ["STUMBLES", "count", "later", "stumble", "survive"]

STUMBLES = 2
"""How often ``stumble`` fails."""

_PATIENCE = 10.0
_PAUSE = 0.05


@job("demo-count")
def count(path: str) -> dict[str, object]:
    """Count the words and bytes of a file line by line, and hash it."""
    words = size = 0
    digest = hashlib.sha256()
    with Path(path).open("rb") as lines:
        for line in lines:
            words += len(line.split())
            size += len(line)
            digest.update(line)
    return {"words": words, "bytes": size, "sha256": digest.hexdigest()}


@job("demo-stumble", tries=STUMBLES + 1, backoff=0.1)
def stumble() -> int:
    """Fail at each attempt but the last one, whose number it returns."""
    attempt = current_job().attempt
    if attempt <= STUMBLES:
        raise RuntimeError(f"attempt {attempt} fails on purpose")
    return attempt


@job("demo-later")
def later() -> int:
    """Return the process that ran it."""
    return os.getpid()


@job("demo-survive")
def survive(note: str) -> dict[str, int]:
    """Write down the process and wait to be killed; started again, return both processes.

    Args:
        note: the file to write to. Nobody else makes it.
    """
    path = Path(note)
    if path.exists():
        return {"killed": int(path.read_text()), "ended": os.getpid()}
    draft = path.with_suffix(".draft")
    draft.write_text(str(os.getpid()))
    draft.rename(path)  # whoever finds the note finds it whole
    end = time.monotonic() + _PATIENCE
    while path.exists() and time.monotonic() < end:  # the note goes when the demo does
        time.sleep(_PAUSE)
    raise TimeoutError("nobody killed this process")
