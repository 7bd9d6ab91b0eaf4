"""What the demo's other application runs, in the worker processes."""

import hashlib
import json
import os
import time
from pathlib import Path

from ..context import current_job
from ..handlers import job

__all__ = ["STUMBLES", "count", "later", "stumble", "survive", "total"]

STUMBLES = 2
"""How often ``stumble`` fails."""

_PATIENCE = 10.0
_PAUSE = 0.05


@job("demo-count")
def count(path: str, note: str) -> dict[str, object]:
    """Count the words and bytes of a file line by line, and hash it.

    Args:
        path: the file.
        note: the file to write the counts to, for ``total``. A second attempt writes it again.
    """
    words = size = 0
    digest = hashlib.sha256()
    with Path(path).open("rb") as lines:
        for line in lines:
            words += len(line.split())
            size += len(line)
            digest.update(line)
    _write(Path(note), json.dumps({"words": words, "bytes": size}))
    return {"words": words, "bytes": size, "sha256": digest.hexdigest()}


@job("demo-total")
def total(folder: str) -> dict[str, int]:
    """Add up what the jobs of the batch have noted.

    Args:
        folder: the one with their notes.
    """
    counts = [json.loads(note.read_text()) for note in Path(folder).glob("*.json")]
    sums = {name: sum(count[name] for count in counts) for name in ("words", "bytes")}
    return {"files": len(counts), **sums}


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
    _write(path, str(os.getpid()))
    end = time.monotonic() + _PATIENCE
    while path.exists() and time.monotonic() < end:  # the note goes when the demo does
        time.sleep(_PAUSE)
    raise TimeoutError("nobody killed this process")


def _write(note: Path, text: str) -> None:
    """Write a note so that whoever finds it finds it whole."""
    draft = note.with_suffix(".draft")
    draft.write_text(text)
    draft.rename(note)
