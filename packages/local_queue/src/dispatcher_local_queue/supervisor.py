"""Starts worker processes, watches them, and puts back what dead ones leave behind."""

import logging
import os
import secrets
import selectors
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack

from dispatcher_core.errors import QueueUnavailable

from .child import Child
from .database import Database
from .liveness import LifeLock, new_life_id
from .maintenance import Pruner
from .neighbours import Neighbours
from .registry import Recovered, Registry
from .reports import Done, Left, Loaded, Ready, Refused
from .signals import Signals
from .slots import Run, Slots, anonymous_file
from .spec import WorkSettings
from .vacancies import Vacancies
from .wakeup import Bells

__all__ = ["Supervisor"]

logger = logging.getLogger("dispatcher.supervisor")

_PROBE_EVERY = 1.0
_QUICK_DEATH = 5.0  # seconds; who lives shorter is restarted after a growing pause
_HOPELESS = 5  # processes that died in a row while they loaded an application that never ran


class Supervisor:
    """Keeps a number of worker processes running. Use it in the main thread, once.

    Args:
        settings: what the workers are told.
        processes: how many there are.
        shutdown_timeout: seconds that running jobs may take once it is told to stop.
    """

    def __init__(self, settings: WorkSettings, *, processes: int, shutdown_timeout: float) -> None:
        self._settings = settings
        self._processes = processes
        self._shutdown_timeout = shutdown_timeout
        self._id = new_life_id()
        self._database = Database(settings.path, durable=False)
        self._registry = Registry(self._database)
        self._neighbours = Neighbours(self._registry, self._database.files, self._id)
        self._pruner = Pruner(self._database, settings.retention)
        self._bells = Bells(self._database.files)
        self._memory = anonymous_file(processes)
        self._slots = Slots(self._memory.fileno())
        self._leash, leash_end = os.pipe()
        self._leash_end: int | None = leash_end
        self._signals = Signals()
        self._children: dict[int, Child] = {}
        self._vacancies = Vacancies(processes)
        self._recovered: Counter[str] = Counter()
        self._stops_at: float | None = None
        self._forced = False
        self._cut_short = False
        self._ready: set[int] = set()
        self._refusal: str | None = None
        self._next_probe = 0.0
        self._trouble: str | None = None

    def run(self) -> int:
        """Run until told to stop, or until every worker has left.

        Returns:
            0 after a clean stop, 1 when jobs had to be put back, 2 when the application
            cannot be loaded.

        Raises:
            QueueUnavailable: the queue cannot be opened at the start.
            QueueError: its file is no queue.
        """
        with ExitStack() as stack:
            stack.callback(self._close)
            stack.enter_context(self._signals.caught())
            self._registry.workers()  # opens the queue: what is wrong with it is said here
            self._lock = self._take_lock()
            stack.callback(lambda: self._lock.release())
            self._loop()
        return self._exit_code()

    def _take_lock(self) -> LifeLock:
        self._database.files.make_folder()
        return LifeLock(self._database.files.supervisor_lock(self._id))

    def _loop(self) -> None:
        while self._children or self._vacancies:
            self._turn()
            if self._children or self._vacancies:
                self._await_something()
                self._signals.clear()

    def _await_something(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._signals.descriptor, selectors.EVENT_READ)
            for child in self._children.values():
                if child.reports.open:
                    selector.register(child.reports.descriptor, selectors.EVENT_READ)
            selector.select(self._seconds_until_something())

    def _turn(self) -> None:
        try:
            self._heed_signals()
            self._probe()
            self._fill_vacancies()
            self._read_reports()
            self._end_overdue_runs()
            self._bury_the_dead()
            self._pruner.do_what_is_due()
            self._trouble = None
        except QueueUnavailable as error:
            # The next turn tries again: nothing is forgotten before the queue has it.
            if str(error) != self._trouble:
                logger.error("%s", error)
            self._trouble = str(error)

    def _seconds_until_something(self) -> float:
        runs = [run for child in self._children.values() if (run := self._run_of(child))]
        times = [self._next_probe, self._pruner.due, self._vacancies.next_due()]
        times += [run.deadline_ns / 1e9 for run in runs]
        if self._stops_at is not None and not self._forced:
            times.append(self._stops_at)
        least = 0.05 if self._trouble else 0.0
        return max(least, min(times) - time.monotonic())

    # Starting and ending worker processes

    def _fill_vacancies(self) -> None:
        for slot in self._vacancies.due():
            self._slots.clear(slot)
            try:
                self._children[slot] = Child.start(
                    self._settings,
                    supervisor_id=self._id,
                    slot=slot,
                    memory=self._memory.fileno(),
                    leash=self._leash,
                )
                self._vacancies.fill(slot)
            except OSError as error:
                logger.error("no worker can be started: %s; again in 1 s", error.strerror)
                self._vacancies.put_off(slot, 1.0)

    def _bury_the_dead(self) -> None:
        for child in [child for child in self._children.values() if child.dead()]:
            self._read_report(child)
            child.bury()
            recovered = self._registry.recover(child.worker_id, killed=not self._forced)
            del self._children[child.slot]
            if not child.left:
                self._tell(f"worker {child.pid} died ({child.cause_of_death()})", recovered)
            if self._stops_at is not None and any(job.state == "queued" for job in recovered):
                self._cut_short = True
            if self._stops_at is None and Done not in child.told:
                self._replace(child, recovered)

    def _replace(self, child: Child, recovered: Sequence[Recovered]) -> None:
        failed = Left not in child.told
        useless = Ready not in child.told or time.monotonic() - child.started < _QUICK_DEATH
        # Who dies under a job did come up, and no job brings this about more than three times.
        early = failed and useless and not recovered
        deaths, pause = self._vacancies.add(child.slot, early=early)
        if deaths >= _HOPELESS and self._is_hopeless(child):
            names = ", ".join(self._settings.imported) or "none is set"
            doing = "set up" if Loaded in child.told else "load"
            self._refuse(
                f"worker processes die ({child.cause_of_death()}) while they {doing} the"
                f" application; to see why, import its modules by hand ({names})"
            )
        elif pause:
            logger.warning("workers die as soon as they start: the next in %.1f s", pause)

    def _is_hopeless(self, child: Child) -> bool:
        # What a lifespan needs may come back, but nobody waits for that in a burst.
        return not self._ready and (Loaded not in child.told or self._settings.burst)

    def _end_overdue_runs(self) -> None:
        now = time.monotonic_ns()
        for child in self._children.values():
            run = self._run_of(child)
            if run is None or run.deadline_ns > now:
                continue
            # Fence first: from here on the worker can neither end this job nor claim another.
            fence = secrets.randbits(62)
            if self._registry.doom(child.worker_id, run.token, fence, run.retry_ms):
                logger.error("worker %d overran a job's timeout: killed", child.pid)
                child.kill()
            child.judged = run.token

    def _run_of(self, child: Child) -> Run | None:
        """What a worker runs, unless that was found overdue before: the next run may follow."""
        run = self._slots.read(child.slot)
        return None if run is None or run.token == child.judged else run

    # Other supervisors' workers

    def _probe(self) -> None:
        if time.monotonic() < self._next_probe:
            return
        self._next_probe = time.monotonic() + _PROBE_EVERY
        if self._lock.replaced():
            logger.error("%s was taken away: made anew", self._database.files.folder)
            self._lock = self._take_lock()
        for worker, recovered in self._neighbours.clean_up():
            self._tell(f"worker {worker.pid} of another supervisor died", recovered)

    # What workers tell, and what we tell of them

    def _read_reports(self) -> None:
        for child in self._children.values():
            self._read_report(child)

    def _read_report(self, child: Child) -> None:
        for message in child.reports.read():
            child.told.add(type(message))
            if isinstance(message, Ready):
                self._announce(child.slot, message.jobs)
            elif isinstance(message, Refused):
                self._refuse(message.reason)

    def _refuse(self, reason: str) -> None:
        """What was running goes on without code that does not load; what starts ends."""
        if self._was_ready():
            logger.error("%s", reason)
        else:
            self._refusal = reason
            self._stop()

    def _was_ready(self) -> bool:
        return len(self._ready) == self._processes

    def _announce(self, slot: int, jobs: Sequence[str]) -> None:
        """Tell once that each place has had a process that was ready, wherever that is now."""
        if self._was_ready():
            return
        self._ready.add(slot)
        if self._was_ready():
            logger.info("jobs known: %s", ", ".join(jobs) or "none: set DISPATCHER_MODULES")
            logger.info("ready")

    def _tell(self, what: str, recovered: Sequence[Recovered]) -> None:
        if not recovered:
            logger.warning("%s", what)
        for job in recovered:
            self._recovered[job.state] += 1
            outcome = "it starts again" if job.state == "queued" else f"it is {job.state}"
            logger.error("%s while it ran job %s %s: %s", what, job.id, job.name, outcome)
            for queue in job.woken:
                self._bells.ring(queue)

    # Stopping

    def _heed_signals(self) -> None:
        requests = self._signals.requests()
        if requests >= 1:
            self._stop()
        if self._stops_at is not None and (requests >= 2 or time.monotonic() >= self._stops_at):
            self._force()

    def _stop(self) -> None:
        """Let the workers finish what they run, and go."""
        if self._stops_at is not None:
            return
        self._stops_at = time.monotonic() + self._shutdown_timeout
        self._vacancies.clear()
        self._let_go()
        if self._refusal is not None:
            return
        for job_id, name in self._registry.running_jobs(self._id):
            logger.info("waiting for job %s %s", job_id, name)
        logger.info("stopping within %.0f s; again to force", self._shutdown_timeout)

    def _let_go(self) -> None:
        if self._leash_end is not None:
            os.close(self._leash_end)
            self._leash_end = None

    def _force(self) -> None:
        if not self._forced:
            self._forced = True
            for child in self._children.values():
                child.kill()

    def _exit_code(self) -> int:
        if self._refusal is not None:
            logger.error("%s", self._refusal)
            return 2
        counts = self._slots.counts() + self._recovered
        put_back = counts.pop("queued", 0)
        ended = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
        logger.info("stopped: %s; %d put back", ended or "no job was run", put_back)
        return 1 if self._cut_short else 0

    def _close(self) -> None:
        os.close(self._leash)
        self._let_go()
        self._signals.close()
        self._bells.close()
        self._memory.close()
        self._database.close()
