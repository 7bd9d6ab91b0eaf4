"""The ids and names of the wire format."""

import hashlib
import re
import secrets
import time
from collections.abc import Iterable

__all__ = ["ID", "NAME", "derived_id", "is_id", "is_name", "new_id"]

ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}", re.ASCII)
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,127}", re.ASCII)


def is_id(text: str) -> bool:
    """Whether the text can be the id of a job or a batch."""
    return ID.fullmatch(text) is not None


def is_name(text: str) -> bool:
    """Whether the text can name a job or a queue."""
    return NAME.fullmatch(text) is not None


def new_id() -> str:
    """A fresh UUID of version 7 (RFC 9562, section 5.7).

    Its time comes first, so that ids made one after the other are stored side by side.
    """
    milliseconds = time.time_ns() // 1_000_000
    return _uuid(7, milliseconds << 80 | secrets.randbits(80))


def derived_id(parts: Iterable[str]) -> str:
    """A UUID of version 8 (RFC 9562, section 5.8) that the same ids and words always give."""
    digest = hashlib.sha256("\n".join(parts).encode("utf-8")).digest()
    return _uuid(8, int.from_bytes(digest[:16], "big"))


def _uuid(version: int, value: int) -> str:
    # RFC 9562, section 4: four bits tell the version, two the variant.
    value = value & ~(0xF << 76 | 0b11 << 62) | version << 76 | 0b10 << 62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
