"""Puts jobs into a peer's queue: ``enqueue.py PROGRAM COUNT``."""

import sys
from importlib import import_module


def main(program: str, count: int) -> None:
    """Put so many jobs that do nothing, with a payload of about 200 bytes."""
    put = import_module(program).put
    for number in range(count):
        put(number, "x" * 170)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
