"""One worker process: claims a job, runs it, ends it, and claims the next."""

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress

from dispatcher_core.application import Application, load_application
from dispatcher_core.errors import JobLoadError, QueueError, QueueUnavailable

from .alarm import GRACE, Alarm
from .claims import Claim, ClaimLost, Claims
from .database import Database, now_ms
from .endings import Ending
from .eventloop import EventLoop
from .forkstop import ForkStop
from .liveness import LifeLock
from .logs import set_up_logging
from .memory import MEBIBYTE, resident_memory
from .registry import Registry
from .reporter import Reporter
from .reports import Done, Left, Loaded, Ready, Refused, ReportWriter
from .running import JobRunner, delay_after
from .slots import Run, Slots
from .spec import WorkerSpec, WorkSettings
from .wakeup import MOST_KEPT, Bells, Sleeper

__all__ = ["Worker", "main"]

logger = logging.getLogger("dispatcher.worker")

_LONGEST_SLEEP = 1.0
_PAUSE_WHEN_UNAVAILABLE = 1.0


class QueueOrder:
    """The queues of a worker, in the order in which it serves them.

    Args:
        named: the queues it was told; without any it serves all, ``default`` first.
        claims: where the others are looked up, once a second.
    """

    def __init__(self, named: Sequence[str], claims: Claims) -> None:
        self._claims = claims
        self._fixed = bool(named)
        self._queues = list(named) or ["default"]
        self._looked_up = float("-inf")

    def current(self) -> Sequence[str]:
        """The queues, first things first."""
        now = time.monotonic()
        if not self._fixed and now - self._looked_up >= 1.0:
            waiting = set(self._claims.queues())
            known = {*self._queues, *waiting}
            # To look into an empty queue costs little, but its name may never come again.
            serve = known if len(known) <= MOST_KEPT else waiting
            self._queues = ["default", *sorted(serve - {"default"})]
            self._looked_up = now
        return self._queues


class Worker:
    """Runs jobs until it is told to go, or has reached its limits.

    Args:
        spec: what it was told at its start.
        claims: its side of the queue.
        runner: runs the jobs.
        bells: wake it, and others.
        unseen: whether its lock is gone, so that others do not see it alive. Then it must leave
            before it claims again.
        unknown: whether another file has taken the place of the queue's, which knows nothing of
            this worker. What it still runs it cannot end; what it claimed would be lost.

    Attributes:
        drained: whether it has found that nothing waits, and was told to end then.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        *,
        claims: Claims,
        runner: JobRunner,
        bells: Bells,
        unseen: Callable[[], bool],
        unknown: Callable[[], bool],
    ) -> None:
        self._settings: WorkSettings = spec.settings
        self._slot = spec.slot
        self._slots = Slots(spec.memory)
        self._claims = claims
        self._runner = runner
        self._bells = bells
        self._sleeper = Sleeper(bells, spec.leash)
        self._unseen = unseen
        self._unknown = unknown
        self._order = QueueOrder(spec.settings.queues, claims)
        self._runs = 0
        self.drained = False
        self._end = time.monotonic() + (spec.settings.max_time or float("inf"))

    def run(self) -> None:
        """Run jobs; returns when it is time to go.

        Raises:
            ClaimLost: the job it ran is not its own any more.
        """
        claim = self._next()
        while claim is not None:
            ending = self._run(claim)
            self._runs += 1
            claim = self._end_and_claim(claim, ending) or self._next()

    def _next(self) -> Claim | None:
        slept = False
        while not (self._leaving() or self._unknown()):
            try:
                queues = self._order.current()
                claim = self._claims.claim(queues) if self._claims.work_waits(queues) else None
                if claim is not None and slept:
                    self._pass_on(claim.queue)
                if claim is not None:
                    return claim
                if self._settings.burst:
                    self.drained = True
                    return None
                self._sleeper.sleep(queues, self._seconds_until_due())
                slept = True
            except QueueUnavailable as error:
                _wait_for_queue(error)
        return None

    def _pass_on(self, queue: str) -> None:
        """Wake another worker, if there is work for it: one nudge may stand for many jobs."""
        with suppress(QueueUnavailable):  # the claim is ours, and others look within a second
            if self._claims.work_waits([queue]):
                self._bells.ring(queue)

    def _run(self, claim: Claim) -> Ending:
        options = self._runner.options(claim.name)
        deadline = time.monotonic() + options.timeout + GRACE
        retry = delay_after(options, claim.attempt)
        self._slots.post(self._slot, Run(int(deadline * 1e9), claim.token, retry))
        runner = self._runner
        try:
            return runner.run(claim, Reporter(self._claims, claim, runner.registry, runner.alarm))
        finally:
            self._slots.clear(self._slot)

    def _end_and_claim(self, claim: Claim, ending: Ending) -> Claim | None:
        finished_at = now_ms()
        while True:
            try:
                queues = () if self._leaving() else self._order.current()
                written, following = self._claims.end_and_claim(claim, ending, queues)
                break
            except QueueUnavailable as error:
                _wait_for_queue(error)
            if self._sleeper.released():
                raise ClaimLost  # it cannot be written: whoever recovers the job runs it again
        self._slots.count(self._slot, written.state)
        _log(claim, written, finished_at)
        return following

    def _leaving(self) -> bool:
        limits = self._settings
        return (
            self._sleeper.released()
            or (limits.max_jobs is not None and self._runs >= limits.max_jobs)
            or time.monotonic() >= self._end
            or self._has_grown()
            or self._unseen()
        )

    def _has_grown(self) -> bool:
        # Before its first job it must not leave: the next process would be as big, and leave too.
        limit = self._settings.max_memory
        return limit is not None and self._runs > 0 and resident_memory() > limit * MEBIBYTE

    def _seconds_until_due(self) -> float:
        due = self._claims.next_due()
        return _LONGEST_SLEEP if due is None else min(_LONGEST_SLEEP, (due - now_ms()) / 1000)


def _wait_for_queue(error: QueueUnavailable) -> None:
    """Log that the queue is not available, and wait a moment: the cause may go away."""
    logger.error("%s; trying again in %.0f s", error, _PAUSE_WHEN_UNAVAILABLE)
    time.sleep(_PAUSE_WHEN_UNAVAILABLE)


def _log(claim: Claim, ending: Ending, finished_at: int) -> None:
    facts = {
        "id": claim.id,
        "name": claim.name,
        "queue": claim.queue,
        "attempt": claim.attempt,
        "waited": max(0, claim.started_at - claim.available_at) / 1000,
        "took": max(0, finished_at - claim.started_at) / 1000,
        "outcome": _outcome(ending),
    }
    if ending.delay_ms is not None:
        facts["next_try_in"] = ending.delay_ms / 1000
    text = " ".join(f"{key}={value}" for key, value in facts.items())
    level = logging.INFO if ending.state != "failed" else logging.ERROR
    logger.log(level, "job %s", text, extra={"facts": facts})


def _outcome(ending: Ending) -> str:
    if ending.state == "scheduled":
        return "retried" if ending.counted else "put-back"
    return ending.state


def main(argument: str) -> int:
    """Run one worker process.

    Args:
        argument: its :class:`WorkerSpec` as JSON.

    Returns:
        Its exit code: 0 after a clean end, 1 where it lost its job or its lifespan failed,
        2 where the application cannot be loaded.
    """
    spec = WorkerSpec.from_json(argument)
    for descriptor in (spec.memory, spec.leash, spec.report):
        os.set_inheritable(descriptor, False)  # what a handler starts must not hold them
    report = ReportWriter(spec.report)
    # Only the supervisor acts on these. Ignoring them outright would be inherited.
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: None)
    sys.path.insert(0, spec.settings.app_dir)
    try:
        with ForkStop():
            application = _load(spec.settings)
    except JobLoadError as error:
        report.write(Refused(str(error)))
        return 2
    report.write(Loaded())
    set_up_logging(spec.settings.log_format, logging.getLevelName(spec.settings.log_level))
    return _work(spec, application, report)


def _load(settings: WorkSettings) -> Application:
    return load_application(
        modules=settings.modules,
        aliases=settings.aliases,
        lifespan=settings.lifespan,
        around_job=settings.around_job,
    )


def _work(spec: WorkerSpec, application: Application, report: ReportWriter) -> int:
    alarm = Alarm()
    loop = EventLoop(alarm)
    try:
        lifespan: AbstractContextManager[object] = nullcontext()
        if application.lifespan is not None:
            lifespan = loop.entered(loop.run(application.lifespan))
        with lifespan as resources:
            runner = JobRunner(
                application.registry,
                around_job=application.around_job,
                resources=resources,
                alarm=alarm,
                loop=loop,
            )
            ready = Ready(application.registry.names())
            if _serve(spec, runner, lambda: report.write(ready)):
                report.write(Done())
        loop.close()
    except ClaimLost:
        logger.error("the job is not this worker's any more: it leaves")
        return 1
    except QueueError as error:
        logger.error("%s", error)
        return 1
    except Exception:
        logger.exception("the worker cannot go on")
        return 1
    report.write(Left())
    return 0


def _serve(spec: WorkerSpec, runner: JobRunner, ready: Callable[[], None]) -> bool:
    """Run jobs, and tell whether it ends because nothing waits, and nobody is to replace it."""
    database = Database(spec.settings.path, durable=False)
    registry = Registry(database)
    database.files.make_folder()
    lock = LifeLock(database.files.worker_lock(spec.worker_id))
    registry.enter(spec.worker_id, spec.supervisor_id, os.getpid())
    ready()
    inode = database.inode()
    bells = Bells(database.files)
    worker = Worker(
        spec,
        claims=Claims(database, spec.worker_id, bells),
        runner=runner,
        bells=bells,
        unseen=lock.replaced,
        unknown=lambda: database.inode() != inode,
    )
    worker.run()
    registry.recover(spec.worker_id)
    lock.release()
    database.close()
    return worker.drained


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
