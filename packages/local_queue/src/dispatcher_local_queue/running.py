"""Runs one job in this process, and says how the run ends."""

import inspect
import json
import logging
import random
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType

from dispatcher_core.aliases import AliasRegistry
from dispatcher_core.backoff import retry_delay
from dispatcher_core.context import JobContext, JobReporter, running
from dispatcher_core.describing import message_of
from dispatcher_core.errors import InvalidPayload, UnknownJob
from dispatcher_core.handlers import Handler, JobOptions
from dispatcher_core.jsontext import dump, flaw
from dispatcher_core.outcomes import Cancelled, Fail, JobTimeout, Retry
from dispatcher_core.status import JobError

from .alarm import Alarm
from .claims import Claim
from .database import now_ms
from .endings import Ending
from .eventloop import AnyContextManager, EventLoop

__all__ = ["JobRunner", "delay_after"]

logger = logging.getLogger("dispatcher.worker")

MAX_RESULT = 64 * 1024  # bytes
MAX_MESSAGE = 1024  # bytes
_UNKNOWN_RETRY_MS = 30_000
_UNKNOWN_LIMIT_MS = 15 * 60_000


class JobRunner:
    """Runs the jobs of one worker process, one at a time, in its main thread.

    Args:
        registry: the jobs that may run.
        around_job: the application's hook around each attempt.
        resources: what the application's ``lifespan`` yielded.
        alarm: ends handlers that run too long.
        loop: runs coroutines.
    """

    def __init__(
        self,
        registry: AliasRegistry,
        *,
        around_job: Callable[[JobContext], AnyContextManager] | None,
        resources: object,
        alarm: Alarm,
        loop: EventLoop,
    ) -> None:
        self.registry = registry
        self._around_job = around_job
        self._resources = resources
        self.alarm = alarm
        self._loop = loop

    def options(self, name: str) -> JobOptions:
        """How a job of this name is tried."""
        try:
            return self.registry.resolve(name).options
        except UnknownJob:
            return JobOptions()

    def run(self, claim: Claim, reporter: JobReporter) -> Ending:
        """Run the job. Whatever its handler raises becomes the ending."""
        try:
            handler = self.registry.resolve(claim.name)
        except UnknownJob as error:
            return _unknown(claim, error)
        payload = json.loads(claim.payload)
        try:
            handler.check(payload)
        except InvalidPayload as error:
            return Ending.failed(_job_error(error, error.code))
        context = JobContext(
            id=claim.id,
            name=claim.name,
            queue=claim.queue,
            attempt=claim.attempt,
            tries=handler.options.tries,
            batch_id=claim.batch_id,
            resources=self._resources,
            reporter=reporter,
        )
        return self._attempt(handler, payload, context)

    def _attempt(
        self, handler: Handler, payload: Mapping[str, object], context: JobContext
    ) -> Ending:
        with self._loop.own_context(), self._loop.entered(running(context)):
            try:
                with self.alarm.armed(handler.options.timeout):
                    value = self._call(handler, payload, context)
                if self.alarm.rang:
                    raise JobTimeout("the handler went on after its timeout")
                return Ending(state="succeeded", result=self._loop.run(_result_text, value))
            except BaseException as error:  # noqa: BLE001 - a handler may raise anything
                timed_out = self.alarm.rang or isinstance(error, JobTimeout)
                return self._loop.run(_ending_after, error, handler.options, context, timed_out)

    def _call(
        self, handler: Handler, payload: Mapping[str, object], context: JobContext
    ) -> object:
        hook: AbstractContextManager[object] = nullcontext()
        if self._around_job is not None:
            hook = self._loop.entered(self._loop.run(self._around_job, context))
        value: object = None
        with hook:
            value = self._loop.run(handler.call, payload)
            if inspect.isawaitable(value):
                value = self._loop.wait(value)
        return value


def delay_after(options: JobOptions, attempt: int) -> int | None:
    """Milliseconds until the next try, when this one fails; None when it is the last."""
    if attempt >= options.tries:
        return None
    return round(retry_delay(options.backoff, attempt, random.uniform) * 1000)


def _ending_after(
    error: BaseException, options: JobOptions, context: JobContext, timed_out: bool
) -> Ending:
    if isinstance(error, Cancelled) and context.cancel_requested:
        return Ending(state="cancelled")
    delay = _delay_after(error, options, context.attempt, timed_out)
    error.__traceback__ = _from_handler_on(error.__traceback__)
    if delay is None:
        _log(logging.ERROR, "the job failed", error)
    else:
        _log(logging.WARNING, "the try failed", error)
    job_error = _job_error(error, "timed-out" if timed_out else "exception")
    return Ending.failed(job_error) if delay is None else Ending.retried(job_error, delay)


def _log(level: int, what: str, error: BaseException) -> None:
    try:
        logger.log(level, what, exc_info=error)
    except BaseException as another:  # noqa: BLE001 - the application's code formats its error
        kinds = type(error).__name__, type(another).__name__
        logger.log(level, "%s: %s, which cannot be logged (%s)", what, *kinds)


def _delay_after(
    error: BaseException, options: JobOptions, attempt: int, timed_out: bool
) -> int | None:
    if isinstance(error, Retry):
        delay = delay_after(options, attempt)
        return delay if delay is None or error.after is None else round(error.after * 1000)
    if isinstance(error, Fail):
        return None
    if timed_out or isinstance(error, options.retry_on):
        return delay_after(options, attempt)
    return None


def _from_handler_on(traceback: TracebackType | None) -> TracebackType | None:
    """The traceback without the frames of ours that lead to the application's code."""
    here = traceback
    while here is not None:
        if not here.tb_frame.f_globals.get("__name__", "").startswith("dispatcher_"):
            return here
        here = here.tb_next
    return traceback


def _unknown(claim: Claim, error: UnknownJob) -> Ending:
    # In a rolling deploy the workers that know the name may come up in a moment.
    now = now_ms()
    since = claim.unknown_since or now
    if now - since >= _UNKNOWN_LIMIT_MS:
        return Ending.failed(_job_error(error, error.code))
    logger.warning("%s; it is put back for 30 s", error)
    return Ending(
        state="scheduled", delay_ms=_UNKNOWN_RETRY_MS, counted=False, unknown_since=since
    )


def _job_error(error: BaseException, code: str) -> JobError:
    data = message_of(error).encode("utf-8", "replace")[:MAX_MESSAGE]
    return JobError(code, type(error).__name__, data.decode("utf-8", "ignore"))


def _result_text(value: object) -> str | None:
    if value is None:
        return None
    found = flaw(value, "the result")
    if found is None:
        text = dump(value)
        size = len(text.encode("utf-8"))
        if size <= MAX_RESULT:
            return text
        found = f"the result is {size} bytes of JSON, over {MAX_RESULT}"
    logger.warning("%s: it is stored as null", found)
    return None
