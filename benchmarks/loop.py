"""One process of ``benchmarks/queue.py contention``: puts, claims and ends for a while."""

import sys
import time
from pathlib import Path

from benchmarks.cases import messages

from dispatcher_local_queue.claims import Claims
from dispatcher_local_queue.database import Database
from dispatcher_local_queue.endings import Ending
from dispatcher_local_queue.queue import SQLiteQueue
from dispatcher_local_queue.wakeup import Bells


def main(path: Path, seconds: float) -> None:
    """Print how many cycles there were, and the longest that one step took, in seconds."""
    database = Database(path, durable=False)
    queue = SQLiteQueue(path)
    claims = Claims(database, str(time.monotonic_ns()), Bells(database.files))
    count, longest = 0, 0.0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        (job,) = messages(1)
        before = time.perf_counter()
        queue.put(job)
        middle = time.perf_counter()
        claim = claims.claim(["default"])
        later = time.perf_counter()
        if claim is not None:
            claims.end_and_claim(claim, Ending(state="succeeded"), [])
        after = time.perf_counter()
        longest = max(longest, middle - before, later - middle, after - later)
        count += claim is not None
    print(count, longest)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
