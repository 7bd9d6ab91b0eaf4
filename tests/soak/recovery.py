"""Kills the worker of a running job again and again, and measures until the job runs again.

``python -m soak.recovery --kills 50``, in the folder ``tests``. There are three ways: beside an
idle ``sister`` process; ``alone``, when a new process has to be started; and with the
``whole`` supervisor killed too, when only another supervisor is left.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from dispatcher_local_queue import SQLiteQueue

from .evidence import Start, read_starts
from .figures import spread
from .killing import Kill, Victim, children_of, identity
from .plans import Plan
from .programs import Place, Program

__all__ = ["Recovery"]

LIMIT = 2.0  # seconds
_PATIENCE = 60.0  # seconds for everything else
_STEP = 0.002  # seconds

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Way:
    """What is killed, and who is left.

    Attributes:
        supervisors: how many run.
        processes: how many workers each of them has.
        whole: whether the supervisor is killed together with its workers.
    """

    supervisors: int
    processes: int
    whole: bool = False


WAYS = {"sister": Way(1, 2), "alone": Way(1, 1), "whole": Way(2, 1, whole=True)}


class Recovery:
    """Kills what runs a job.

    Args:
        place: where its files lie.
        way: what it kills.
    """

    def __init__(self, place: Place, way: Way) -> None:
        self._place = place
        self._way = way
        self._queue = SQLiteQueue(place.database)
        self._supervisors: list[Program] = []

    def measure(self, kills: int) -> list[float]:
        """Seconds from each kill until the job runs again, sorted."""
        try:
            return sorted(self._measure_once(number) for number in range(kills))
        finally:
            for supervisor in self._supervisors:
                supervisor.stop(_PATIENCE)

    def _measure_once(self, number: int) -> float:
        plan = Plan(id=str(number), job="stop-when-asked", payload={}, queue="default", priority=0)
        self._make_ready()
        self._queue.put(plan.message())
        first = _awaited(lambda: self._start(plan.id, 0), "the job to start")
        killed = self._kill(first.process)
        second = _awaited(lambda: self._start(plan.id, 1), "the job to start again")
        self._queue.cancel_job(plan.id)
        _awaited(lambda: self._cancelled(plan.id), "the job to stop")
        return (second.at - killed.at) / 1e9

    def _make_ready(self) -> None:
        self._supervisors = [each for each in self._supervisors if each.process.poll() is None]
        while len(self._supervisors) < self._way.supervisors:
            supervisor = self._place.start_supervisor("supervisors", self._way.processes)
            self._supervisors.append(supervisor)
        workers = self._way.supervisors * self._way.processes
        _awaited(lambda: self._queue.workers() == workers, "every worker to be up")

    def _kill(self, process: str) -> Kill:
        """Kill this worker, and its supervisor just before it if that is the way."""
        parent, pid = next(
            (each.process.pid, pid)
            for each in self._supervisors
            for pid in children_of(each.process.pid)
            if identity(pid) == process
        )
        victims = [Victim.child_of(parent, pid, "worker")]
        if self._way.whole:
            victims.insert(0, Victim.child_of(os.getpid(), parent, "supervisor"))
        *_, killed = [victim.kill() for victim in victims if victim is not None]
        if killed is None:
            raise RuntimeError(f"the worker {process} has died by itself")
        return killed

    def _start(self, id: str, index: int) -> Start | None:
        own = [start for start in read_starts(self._place.events) if start.id == id]
        own.sort(key=lambda start: start.at)
        return own[index] if index < len(own) else None

    def _cancelled(self, id: str) -> bool:
        status = self._queue.find_job(id)
        return status is not None and status.state == "cancelled"


def _awaited(look: Callable[[], Found | None], what: str) -> Found:
    deadline = time.monotonic() + _PATIENCE
    while not (found := look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {_PATIENCE:.0f} s in vain for {what}")
        time.sleep(_STEP)
    return found


def main() -> int:
    """Measure.

    Returns:
        0 if the limit was kept each time, 1 if not.
    """
    parser = argparse.ArgumentParser(prog="python -m soak.recovery", description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--way", choices=WAYS, help="only this one")
    given = parser.parse_args()
    return max(_measure(way, given.kills) for way in ([given.way] if given.way else WAYS))


def _measure(way: str, kills: int) -> int:
    with tempfile.TemporaryDirectory(prefix="recovery-") as folder:
        place = Place(Path(folder))
        place.prepare()
        times = Recovery(place, WAYS[way]).measure(kills)
    print(f"{way}: seconds until the job runs again: {spread(times)}", flush=True)
    if times[-1] > LIMIT:
        print(f"BROKEN: it must run again within {LIMIT} s")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
