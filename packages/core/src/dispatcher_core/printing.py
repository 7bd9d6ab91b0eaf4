"""What commands print: lines for people, JSON for programs."""

import json
import sys
from collections.abc import Mapping
from contextlib import suppress

__all__ = ["print_json", "print_pairs", "printable", "warn"]


def printable(text: str) -> str:
    """The text in one line, without characters that would steer a terminal."""
    line = " ".join(text.split())
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in line)


def print_pairs(pairs: Mapping[str, str]) -> None:
    """Print names and values, one below the other."""
    width = max(map(len, pairs))
    for name, value in pairs.items():
        print(f"{name:{width}}  {printable(value)}")


def print_json(content: Mapping[str, object]) -> None:
    """Print one JSON object in one line."""
    print(json.dumps(content), flush=True)


def warn(text: str) -> None:
    """Print a line to the standard error. Where nobody can read it, the exit code still tells."""
    with suppress(OSError):
        print("dispatcher:", printable(text), file=sys.stderr)
