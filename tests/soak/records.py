"""Files of records that a SIGKILL cannot spoil: a record is one line, appended by one write."""

import json
import os
from pathlib import Path
from typing import Any

__all__ = ["Records", "read_records"]


class Records:
    """Appends records to a file.

    Args:
        path: the file; it is made when it does not exist.
    """

    def __init__(self, path: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o600)

    def write(self, **members: object) -> None:
        """Append one record."""
        os.write(self._descriptor, json.dumps(members).encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of a file, in the order of writing; none where there is no file."""
    if not path.exists():
        return []
    *lines, _ = path.read_bytes().split(b"\n")
    return [json.loads(line) for line in lines]
