"""Kills the processes of a queue for a while, and shows what became of its jobs.

``python -m soak --jobs 2000 --kills 20 --seconds 40``, in the folder ``tests``.
"""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from .chaos import Chaos, Size
from .checks import findings
from .evidence import collect
from .figures import figures
from .programs import Place

_SHOWN = 40


def main() -> int:
    """Make one run.

    Returns:
        0 if every promise was kept, 1 if not.
    """
    given = _arguments()
    size = Size(given.jobs, given.kills, given.seconds, given.seed)
    place = Place(Path(given.folder or tempfile.mkdtemp(prefix="soak-")).absolute())
    print(f"{size}, in {place.folder}", flush=True)
    place.prepare()
    chaos = Chaos(place, size)
    chaos.run()
    evidence = collect(place, jobs=size.jobs, kills=chaos.kills, faults=chaos.faults)
    for name, value in figures(evidence, took=chaos.took, wal_peak=chaos.wal_peak):
        print(f"{name:.<38} {value}")
    found = findings(evidence)
    for line in found[:_SHOWN]:
        print(f"BROKEN: {line}")
    print(f"{len(found)} promises are broken" if found else "every promise was kept")
    if not (found or given.folder):
        shutil.rmtree(place.folder)
    return 1 if found else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    parser.add_argument("--jobs", type=int, default=24_000)
    parser.add_argument("--kills", type=int, default=150)
    parser.add_argument("--seconds", type=float, default=420.0)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--folder", help="a new folder in which the files of the run are kept")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
