"""One process of ``benchmarks/queue.py claiming``: ends jobs and claims the next for a while."""

import sys
import time
from pathlib import Path

from dispatcher_local_queue.claims import Claims
from dispatcher_local_queue.database import Database
from dispatcher_local_queue.endings import Ending
from dispatcher_local_queue.wakeup import Bells


def main(path: Path, seconds: float) -> None:
    """Print how many jobs it ended, and the longest that one step took, in seconds."""
    database = Database(path, durable=False)
    claims = Claims(database, str(time.monotonic_ns()), Bells(database.files))
    claim = claims.claim(["default"])
    count, longest = 0, 0.0
    end = time.monotonic() + seconds
    while claim is not None and time.monotonic() < end:
        before = time.perf_counter()
        _, claim = claims.end_and_claim(claim, Ending(state="succeeded"), ["default"])
        longest = max(longest, time.perf_counter() - before)
        count += 1
    assert claim is not None, "the jobs did not last: put more"
    claims.end_and_claim(claim, Ending(state="succeeded"), [])
    print(count, longest)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
