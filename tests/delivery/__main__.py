"""Dispatches while the receiver's processes are killed, and shows what became of the jobs.

``python -m delivery --dispatches 10000 --kills 200``, in the folder ``tests``.
"""

import argparse
import logging
import sys
import tempfile
from pathlib import Path

from .kills import Size, figures, findings, run

_SHOWN = 40


def main() -> int:
    """Make one run.

    Returns:
        0 if every promise was kept, 1 if not.
    """
    size = _size()
    logging.disable()  # of each dispatch that fails there would be a line
    print(size, flush=True)
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        evidence = run(Path(folder), size)
    for name, value in figures(evidence):
        print(f"{name:.<36} {value}")
    found = list(findings(evidence))
    for line in found[:_SHOWN]:
        print(f"BROKEN: {line}")
    print(f"{len(found)} promises are broken" if found else "every promise was kept")
    return 1 if found else 0


def _size() -> Size:
    parser = argparse.ArgumentParser(prog="python -m delivery")
    parser.add_argument("--dispatches", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--sender", choices=("urllib", "requests"), default="urllib")
    return Size(**vars(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
