"""The enqueuing program: puts its jobs in bursts, and cancels the ones that are to be cancelled.

It writes down what the queue has accepted only after the queue said so. Killed and started
again, it goes on where its own record ends, with the same ids: so it sends again what was
stored without its knowing.
"""

import argparse
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from dispatcher_core.errors import QueueUnavailable
from dispatcher_local_queue import SQLiteQueue

from .plans import Plan, make_plan
from .records import Records, read_records

__all__ = ["Enqueuer"]

THREADS = 3
BURST = 30
_CANCEL_AFTER = 0.5  # seconds
_STEP = 0.05  # seconds

Answer = TypeVar("Answer")


class Enqueuer:
    """Puts the jobs of one enqueuing program.

    Args:
        queue: the queue.
        log: the file of what was accepted and cancelled.
    """

    def __init__(self, queue: SQLiteQueue, log: Path) -> None:
        self._queue = queue
        known = read_records(log)
        self._accepted = {each["id"]: each["plan"] for each in known if "plan" in each}
        cancelled = {each["id"] for each in known if each["event"] == "cancelled"}
        self._to_cancel = deque(
            (0.0, id)
            for id, plan in self._accepted.items()
            if plan["cancel"] and id not in cancelled
        )
        self._log = Records(log)

    def run(self, plans: Sequence[Plan], began: float, seconds: float) -> None:
        """Put the jobs, spread over so many seconds from the monotonic time ``began`` on."""
        self._repeat_the_last()
        with ThreadPoolExecutor(THREADS) as threads:
            for first in range(0, len(plans), BURST):
                due = began + seconds * first / len(plans)
                while (left := due - time.monotonic()) > 0:
                    self._cancel_due()
                    time.sleep(min(left, _STEP))
                burst = [p for p in plans[first : first + BURST] if p.id not in self._accepted]
                list(threads.map(self._put, burst))
        while self._to_cancel:
            self._cancel_due()
            time.sleep(_STEP)

    def _repeat_the_last(self) -> None:
        """Put a job anew that was accepted, as who lost the answer does."""
        if self._accepted:
            *_, last = self._accepted.values()
            message = Plan(**last).message()
            new = self._insist(lambda: self._queue.put(message))
            self._log.write(event="repeated", id=message.id, new=new)

    def _put(self, plan: Plan) -> None:
        self._log.write(event="asked", id=plan.id, at=time.monotonic_ns())
        new = self._insist(lambda: self._queue.put(plan.message()))
        self._log.write(event="accepted", id=plan.id, new=new, plan=asdict(plan))
        if plan.cancel == "waiting":
            self._cancel(plan.id)
        elif plan.cancel == "running":
            self._to_cancel.append((time.monotonic() + _CANCEL_AFTER, plan.id))

    def _cancel_due(self) -> None:
        while self._to_cancel and self._to_cancel[0][0] <= time.monotonic():
            self._cancel(self._to_cancel.popleft()[1])

    def _cancel(self, id: str) -> None:
        status = self._insist(lambda: self._queue.cancel_job(id))
        self._log.write(event="cancelled", id=id, state=status and status.state)

    def _insist(self, ask: Callable[[], Answer]) -> Answer:
        """What the queue answers; each time that it is not available is written down."""
        while True:
            try:
                return ask()
            except QueueUnavailable as error:
                self._log.write(event="unavailable", reason=str(error))


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--database", type=Path, required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--number", type=int, required=True)
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--began", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    given = parser.parse_args()
    plans = [make_plan(given.seed, given.number, index) for index in range(given.jobs)]
    Enqueuer(SQLiteQueue(given.database), given.log).run(plans, given.began, given.seconds)


if __name__ == "__main__":
    main()
