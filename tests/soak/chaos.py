"""Runs the programs, kills them at random, and waits until everything is done."""

import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random

from dispatcher_core.errors import QueueError
from dispatcher_local_queue.database import Database

from .killing import Kill, Victim, children_of
from .programs import Place, Program

__all__ = ["Chaos", "Size"]

SUPERVISORS = 2
WORKERS_EACH = 2
ENQUEUERS = 4
_STEP = 0.02  # seconds
_LONGEST_LULL = 3.0  # seconds between the bursts of enqueuing programs
_DRAIN = 90.0  # seconds that the remaining jobs may take
_STOP = 30.0  # seconds
_STRIKES = {"worker": 60, "enqueuer": 22, "supervisor": 10, "family": 6, "everything": 2}
_UNFINISHED = """
SELECT EXISTS (SELECT 1 FROM job WHERE state = 'queued')
    OR EXISTS (SELECT 1 FROM job WHERE state = 'scheduled')
    OR EXISTS (SELECT 1 FROM job WHERE state = 'running')
"""


@dataclass(frozen=True, slots=True)
class Size:
    """How big a run is.

    Attributes:
        jobs: how many jobs are put.
        kills: how often something is killed.
        seconds: how long that takes.
        seed: what the jobs, and when whom it hits, follow from.
    """

    jobs: int
    kills: int
    seconds: float
    seed: int


class Chaos:
    """One run.

    Args:
        place: where its files lie.
        size: how big it is.

    Attributes:
        kills: who was killed.
        faults: what happened that must not.
        wal_peak: the greatest size of SQLite's log, in bytes.
        took: seconds until everything was done.
    """

    def __init__(self, place: Place, size: Size) -> None:
        self.kills: list[Kill] = []
        self.faults: list[str] = []
        self.wal_peak = 0
        self.took = 0.0
        self._place = place
        self._size = size
        self._random = Random(size.seed)
        self._database = Database(place.database, durable=False)
        self._programs: dict[str, Program] = {}
        self._began = time.monotonic()

    def run(self) -> None:
        """Run it. No program that it started is left when it returns or raises."""
        try:
            self._start(f"supervisor-{number}" for number in range(SUPERVISORS))
            self._start(f"enqueuer-{number}" for number in range(ENQUEUERS))
            for due in self._times():
                while time.monotonic() < due:
                    self._look_around()
                self._strike()
            self._await("every job to be put", lambda: not self._named("enqueuer"))
            self._await("every job to be done", self._all_done)
            self.took = time.monotonic() - self._began
            self._await("the traces of the dead to go", self._settled)
            self._stop()
        finally:
            for program in self._programs.values():
                program.process.kill()
                program.process.wait()
            self._database.close()

    def _times(self) -> list[float]:
        times = [self._random.uniform(0, self._size.seconds) for _ in range(self._size.kills)]
        return sorted(self._began + seconds for seconds in times)

    def _named(self, kind: str) -> list[str]:
        return [name for name, program in self._programs.items() if program.kind == kind]

    def _start(self, names: Iterable[str]) -> None:
        for name in names:
            kind, _, number = name.partition("-")
            if kind == "supervisor":
                self._programs[name] = self._place.start_supervisor(name, WORKERS_EACH)
            else:
                share = range(int(number), self._size.jobs, ENQUEUERS)
                self._programs[name] = self._place.start_enqueuer(
                    name,
                    {
                        "number": number,
                        "jobs": len(share),
                        "began": self._began,
                        "seconds": self._size.seconds,
                        "seed": self._size.seed,
                    },
                )

    # Waiting

    def _await(self, what: str, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _DRAIN
        while not condition():
            if time.monotonic() > deadline:
                self.faults.append(f"waited {_DRAIN:.0f} s in vain for {what}")
                return
            self._look_around()

    def _look_around(self) -> None:
        time.sleep(_STEP)
        log = self._place.database.with_name(self._place.database.name + "-wal")
        if log.exists():
            self.wal_peak = max(self.wal_peak, log.stat().st_size)
        for name, program in list(self._programs.items()):
            code = program.process.poll()
            if code == 0 and program.kind == "enqueuer":
                del self._programs[name]
            elif code is not None:
                self.faults.append(f"{name} ended by itself, with exit code {code}")
                self._start([name])

    def _all_done(self) -> bool:
        return self._asked(_UNFINISHED) == 0

    def _settled(self) -> bool:
        """Whether only the living have left traces."""
        folder = self._place.queue_files.folder
        counts = (
            self._asked("SELECT count(*) FROM worker"),
            len(list(folder.glob("worker-*.lock"))),
            len(list(folder.glob("supervisor-*.lock"))),
        )
        workers = SUPERVISORS * WORKERS_EACH
        return counts == (workers, workers, SUPERVISORS)

    def _asked(self, question: str) -> int | None:
        try:
            with self._database.read() as connection:
                (answer,) = connection.execute(question).fetchone()
        except QueueError as error:
            self.faults.append(f"reading the queue failed: {error}")
            return None
        return int(answer)

    # Killing

    def _strike(self) -> None:
        """Kill something, for certain."""
        so_far = len(self.kills)
        while len(self.kills) == so_far:
            (kind,) = self._random.choices(list(_STRIKES), _STRIKES.values())
            if kind == "everything":
                self._bring_down(list(self._programs), kind)
            elif kind == "enqueuer":
                self._bring_down(self._busy_enqueuer(), kind)
            elif kind == "worker":
                self._kill_a_worker(self._programs[self._a_supervisor()])
            else:
                self._bring_down([self._a_supervisor()], kind)
            self._look_around()

    def _a_supervisor(self) -> str:
        return self._random.choice(self._named("supervisor"))

    def _busy_enqueuer(self) -> list[str]:
        """One that is in the middle of a burst, if one comes soon."""
        sizes = self._log_sizes()
        deadline = time.monotonic() + _LONGEST_LULL
        while sizes and time.monotonic() < deadline:
            grown = [name for name, size in self._log_sizes().items() if size > sizes[name]]
            if grown:
                time.sleep(self._random.uniform(0, 0.005))
                return [self._random.choice(grown)]
            time.sleep(0.001)
        return []

    def _log_sizes(self) -> dict[str, int]:
        logs = {name: self._place.log(name) for name in self._named("enqueuer")}
        return {name: log.stat().st_size if log.exists() else 0 for name, log in logs.items()}

    def _kill_a_worker(self, supervisor: Program) -> None:
        workers = children_of(supervisor.process.pid)
        if workers:
            pid = self._random.choice(workers)
            self._kill(Victim.child_of(supervisor.process.pid, pid, "worker"), "worker")

    def _bring_down(self, names: list[str], strike: str) -> None:
        """Kill programs, in any order, and start them anew."""
        workers = strike in ("family", "everything")
        victims = [v for name in names for v in self._programs[name].victims(workers=workers)]
        self._random.shuffle(victims)
        for victim in victims:
            self._kill(victim, strike)
            time.sleep(self._random.uniform(0, 0.002))
        for name in names:
            code = self._programs[name].process.wait()
            if code not in (0, -signal.SIGKILL):
                self.faults.append(f"{name} ended by itself, with exit code {code}")
        self._start(names)

    def _kill(self, victim: Victim | None, strike: str) -> None:
        made = None if victim is None else victim.kill(strike)
        if made is not None:
            self.kills.append(made)

    def _stop(self) -> None:
        """Stop the supervisors as one does who wants nothing to be lost."""
        for name in self._named("supervisor"):
            code = self._programs.pop(name).stop(_STOP)
            if code != 0:
                self.faults.append(f"{name} stopped with exit code {code}")
