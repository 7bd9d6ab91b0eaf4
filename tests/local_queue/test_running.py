"""Running one job in a worker process: what becomes of whatever its handler does."""

import asyncio
import contextvars
import json
import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta

import pytest

from dispatcher_core import (
    AliasRegistry,
    Cancelled,
    Fail,
    JobError,
    JobTimeout,
    NoCurrentJob,
    Retry,
    current_job,
    job,
)
from dispatcher_core.handlers import JobOptions
from dispatcher_core.testing.handlers import Recorder
from dispatcher_local_queue.alarm import Alarm
from dispatcher_local_queue.claims import Claim
from dispatcher_local_queue.database import now_ms
from dispatcher_local_queue.endings import Ending
from dispatcher_local_queue.eventloop import EventLoop
from dispatcher_local_queue.running import JobRunner, delay_after

VARIABLE = contextvars.ContextVar("variable", default="unset")


class Process:
    """What a worker process has: an alarm, a loop, and the application's hooks."""

    def __init__(self) -> None:
        self.alarm = Alarm()
        self.loop = EventLoop(self.alarm)
        self.reporter = Recorder(job_id="job-1")
        self.around_job = None
        self.resources: object = None
        self.handlers: dict = {}

    def run(self, target=None, payload=None, **claim) -> Ending:
        """Run one try of a job whose handler this is."""
        handlers = {"it": target} if target else {}
        runner = JobRunner(
            AliasRegistry(handlers),
            around_job=self.around_job,
            resources=self.resources,
            alarm=self.alarm,
            loop=self.loop,
        )
        return runner.run(make_claim(payload, **claim), self.reporter)


def make_claim(payload=None, **more) -> Claim:
    facts = {
        "seq": 1,
        "token": 2,
        "id": "job-1",
        "name": "it",
        "queue": "default",
        "attempt": 1,
        "kills": 0,
        "batch_id": None,
        "counted_in": None,
        "payload": json.dumps(payload or {}),
        "available_at": now_ms(),
        "started_at": now_ms(),
        "unknown_since": None,
    }
    return Claim(**(facts | more))


@pytest.fixture
def process() -> Iterator[Process]:
    """A worker process's parts; the alarm is this process's own."""
    before = signal.getsignal(signal.SIGALRM)
    process = Process()
    yield process
    process.loop.close()
    signal.signal(signal.SIGALRM, before)


def failing(error: BaseException, **options):
    """A handler that raises."""

    @job(**options)
    def handler():
        raise error

    return handler


def async_failing(error: BaseException, **options):
    """A coroutine handler that raises."""

    @job(**options)
    async def handler():
        await asyncio.sleep(0)
        raise error

    return handler


both_kinds = pytest.mark.parametrize("make", [failing, async_failing], ids=["sync", "async"])


# Results


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None),
        ({"sum": [1, 2.5, "ä", None, True]}, '{"sum":[1,2.5,"ä",null,true]}'),
        ((1, 2), "[1,2]"),
        (False, "false"),
        ("", '""'),
    ],
    ids=repr,
)
def test_a_result_is_json(process, value, text) -> None:
    """What a handler returns is kept as compact JSON."""
    assert process.run(lambda: value) == Ending(state="succeeded", result=text)


@pytest.mark.parametrize(
    "value",
    [{1, 2}, object(), b"bytes", float("nan"), {1: 2}, 2**63, chr(0xD800), timedelta(1)],
    ids=["set", "object", "bytes", "nan", "key", "integer", "surrogate", "timedelta"],
)
def test_a_result_that_is_no_json(process, value, caplog) -> None:
    """What is no JSON is kept as null, and the log says what was wrong with it."""
    assert process.run(lambda: [value]) == Ending(state="succeeded", result=None)
    assert "the result[0]" in caplog.text
    assert caplog.records[-1].levelno == logging.WARNING


def test_a_result_that_contains_itself(process, caplog) -> None:
    """A circle is no JSON either."""
    circle: list = []
    circle.append(circle)
    assert process.run(lambda: circle).result is None
    assert "nested" in caplog.text


def test_a_result_that_is_too_large(process, caplog) -> None:
    """64 KiB of UTF-8 are kept, one byte more is not."""
    fits = "ä" * (32 * 1024 - 1)
    assert process.run(lambda: fits).result == f'"{fits}"'
    assert process.run(lambda: fits + "a").result is None
    assert "65537 bytes of JSON, over 65536" in caplog.text


def test_a_result_that_cannot_be_looked_at(process) -> None:
    """A value that raises when it is read fails the job, not the worker."""

    class Odd(dict):
        def items(self):
            raise RuntimeError("changed while it was read")

    ending = process.run(lambda: Odd(a=1))
    assert (ending.state, ending.error.code) == ("failed", "exception")


# Handlers


def test_a_function_gets_the_payload(process) -> None:
    """A function's parameters are the members of the payload."""
    assert process.run(lambda a, b=5: [a, b], {"a": 1}).result == "[1,5]"


def test_a_coroutine_function(process) -> None:
    """A coroutine function is awaited."""

    async def add(a, b):
        await asyncio.sleep(0)
        return a + b

    assert process.run(add, {"a": 1, "b": 2}).result == "3"


def test_coroutines_share_one_loop(process) -> None:
    """All coroutines of a process run in one event loop: a pool made in one works in the next."""

    async def loop_id():
        return id(asyncio.get_running_loop())

    assert process.run(loop_id) == process.run(loop_id)


def test_a_class(process) -> None:
    """A class is built with the payload and then handled."""

    class Add:
        def __init__(self, a, b):
            self.a, self.b = a, b

        def handle(self):
            return self.a + self.b

    class AddLater(Add):
        async def handle(self):
            await asyncio.sleep(0)
            return -(self.a + self.b)

    assert process.run(Add, {"a": 1, "b": 2}).result == "3"
    assert process.run(AddLater, {"a": 1, "b": 2}).result == "-3"


def test_the_current_job(process) -> None:
    """A handler knows the job that it runs for, and nobody does outside."""
    process.resources = "pool"

    def tell():
        it = current_job()
        it.report_progress(1, 4)
        return [it.id, it.name, it.queue, it.attempt, it.tries, it.batch_id, it.resources]

    async def tell_later():
        await asyncio.sleep(0)
        return tell()

    for handler in (tell, tell_later):
        ending = process.run(job(tries=4)(handler), attempt=3, batch_id="b")
        assert json.loads(ending.result) == ["job-1", "it", "default", 3, 4, "b", "pool"]
    assert [report.percent for report in process.reporter.reported] == [25, 25]
    with pytest.raises(NoCurrentJob):
        current_job()


def test_a_payload_that_does_not_fit(process) -> None:
    """A payload that fits no longer fails the job at once, whatever its tries."""
    ending = process.run(job(tries=5)(lambda a: a), {"b": 1})
    assert (ending.state, ending.error.code) == ("failed", "invalid-payload")
    assert "'b'" in ending.error.message or "'a'" in ending.error.message


def test_an_unknown_name_is_put_back(process, caplog) -> None:
    """A name that is not known waits 30 s, uncounted: other workers may know it soon."""
    before = now_ms()
    ending = process.run(None)
    assert (ending.state, ending.delay_ms, ending.counted) == ("scheduled", 30_000, False)
    assert before <= ending.unknown_since <= now_ms()
    assert "'it'" in caplog.text
    again = process.run(None, unknown_since=before - 899_000)
    assert (again.state, again.unknown_since) == ("scheduled", before - 899_000)


def test_a_name_that_stays_unknown(process) -> None:
    """After 15 minutes a name that nobody knows fails."""
    ending = process.run(None, unknown_since=now_ms() - 900_000)
    assert (ending.state, ending.error.code) == ("failed", "unknown-job")
    assert "'it'" in ending.error.message


# Errors


@both_kinds
@pytest.mark.parametrize(
    "error",
    [
        ValueError("no luck"),
        SystemExit(3),
        KeyboardInterrupt(),
        GeneratorExit(),
        asyncio.CancelledError(),
        StopIteration(),
        BaseExceptionGroup("many", [ValueError("one")]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_handler_raises(process, make, error) -> None:
    """Every exception, of any base, fails the job, and the next job runs."""
    ending = process.run(make(error))
    assert (ending.state, ending.error.code) == ("failed", "exception")
    if not isinstance(error, StopIteration):  # Python makes it a RuntimeError in a coroutine
        assert ending.error == JobError("exception", type(error).__name__, str(error))

    async def well():
        return 1

    assert process.run(well).state == "succeeded"


def test_the_log_shows_where(process, caplog) -> None:
    """The traceback goes to the log, from the application's code on, and nowhere else."""
    ending = process.run(failing(ValueError("no luck")))
    traceback = caplog.text[caplog.text.index("Traceback") :]
    assert "raise error" in traceback
    assert "dispatcher_local_queue" not in traceback
    assert "dispatcher_core" not in traceback
    assert ending.error.message == "no luck"


def test_a_long_message_is_cut(process) -> None:
    """A message is at most 1 KiB of UTF-8, cut between characters."""
    ending = process.run(failing(ValueError("a" + "ä" * 1000)))
    assert ending.error.message == "a" + "ä" * 511


@pytest.mark.parametrize(
    ("code", "kept"), [(0xD800, "a?b"), (0, "a\0b")], ids=["surrogate", "null"]
)
def test_an_awkward_message(process, code, kept, jobs, claims, claimed, monkeypatch) -> None:
    """A message that no text can hold is made one that can be kept."""
    claim = claimed()
    # The report of this test could not hold it either.
    monkeypatch.setattr(logging.getLogger("dispatcher.worker"), "disabled", True)
    ending = process.run(failing(ValueError(f"a{chr(code)}b")))
    claims.end_and_claim(claim, ending, [])
    assert jobs.status(claim.id).error.message == kept


def test_an_error_that_cannot_be_printed(process) -> None:
    """An error whose text raises is an error all the same."""

    class Odd(Exception):
        def __str__(self):
            raise RuntimeError

    ending = process.run(failing(Odd()))
    assert ending.error == JobError("exception", "Odd", "(the error has no readable message)")


@both_kinds
@pytest.mark.parametrize("raised", [RuntimeError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_an_error_whose_text_is_a_trap(process, make, raised, monkeypatch, caplog) -> None:
    """Whatever its text raises, and also while an application's handler logs it, it is a try."""

    class Odd(Exception):
        def __str__(self):
            raise raised

    class Careless(logging.Handler):
        def emit(self, record):
            if record.exc_info:
                str(record.exc_info[1])

    monkeypatch.setattr(logging.getLogger("dispatcher.worker"), "handlers", [Careless()])
    error = JobError("exception", "Odd", "(the error has no readable message)")
    endings = [process.run(make(Odd(), tries=2, backoff=1), attempt=n) for n in (1, 2)]
    assert endings == [Ending.retried(error, 1000), Ending.failed(error)]
    for what in ("the try failed", "the job failed"):
        assert f"{what}: Odd, which cannot be logged ({raised.__name__})" in caplog.text


# Another try


@both_kinds
def test_tries_are_counted(process, make) -> None:
    """A job is tried as often as it says, then it fails."""
    handler = make(ValueError("no"), tries=3, backoff=2)
    endings = [process.run(handler, attempt=attempt) for attempt in (1, 2, 3)]
    assert [(ending.state, ending.delay_ms) for ending in endings] == [
        ("scheduled", 2000),
        ("scheduled", 2000),
        ("failed", None),
    ]
    assert {ending.error for ending in endings} == {JobError("exception", "ValueError", "no")}


def test_a_list_of_delays(process) -> None:
    """Delays are taken from the list in order; the last one repeats."""
    handler = failing(ValueError(), tries=9, backoff=[0, 1.5, 4])
    delays = [process.run(handler, attempt=attempt).delay_ms for attempt in (1, 2, 3, 4)]
    assert delays == [0, 1500, 4000, 4000]


def test_full_jitter() -> None:
    """Without a backoff of its own a job waits anything up to a bound that doubles."""
    options = JobOptions(tries=100)
    for attempt, bound in ((1, 1000), (3, 4000), (50, 600_000)):
        delays = [delay_after(options, attempt) or 0 for _ in range(200)]
        assert all(0 <= delay <= bound for delay in delays)
        assert max(delays) > bound / 2
        assert len(set(delays)) > 50
    assert delay_after(options, 100) is None


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (ConnectionError(), "scheduled"),
        (ConnectionResetError(), "scheduled"),
        (TimeoutError(), "scheduled"),
        (ValueError(), "failed"),
        (SystemExit(), "failed"),
    ],
    ids=repr,
)
def test_retry_on(process, error, state) -> None:
    """Only the exceptions that a job lists lead to another try."""
    handler = failing(error, tries=2, backoff=1, retry_on=(ConnectionError, TimeoutError))
    assert process.run(handler).state == state


def test_exits_are_retried_only_on_demand(process) -> None:
    """SystemExit is no Exception: it is retried only by a job that says so."""
    assert process.run(failing(SystemExit(), tries=2)).state == "failed"
    handler = failing(SystemExit(), tries=2, retry_on=BaseException)
    assert process.run(handler).state == "scheduled"


@both_kinds
def test_fail_is_final(process, make) -> None:
    """Fail ends the job whatever its tries."""
    ending = process.run(make(Fail("for good"), tries=5))
    assert ending == Ending.failed(JobError("exception", "Fail", "for good"))


@both_kinds
@pytest.mark.parametrize(
    ("after", "delay"), [(None, 7000), (0, 0), (2.5, 2500), (timedelta(minutes=1), 60_000)]
)
def test_retry(process, make, after, delay) -> None:
    """Retry asks for another try whatever ``retry_on`` says, after its time or the job's own."""
    handler = make(Retry(after), tries=2, backoff=7, retry_on=())
    ending = process.run(handler)
    assert (ending.state, ending.delay_ms, ending.counted) == ("scheduled", delay, True)
    assert process.run(handler, attempt=2).state == "failed"


@both_kinds
def test_cancelled_on_request(process, make) -> None:
    """A job that stops because it was asked to is cancelled."""
    process.reporter.cancelled = True
    assert process.run(make(Cancelled(), tries=5)) == Ending(state="cancelled")


@both_kinds
def test_cancelled_without_request(process, make) -> None:
    """A job that says so by itself has failed like any other, and is tried again."""
    ending = process.run(make(Cancelled("just so"), tries=2, backoff=1))
    assert ending == Ending.retried(JobError("exception", "Cancelled", "just so"), 1000)


# Timeouts


def busy(seconds: float = 20.0) -> None:
    """Be busy without a pause."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


@pytest.mark.parametrize("work", [busy, lambda: threading.Event().wait(20)], ids=["busy", "wait"])
def test_a_timeout_ends_a_handler(process, work) -> None:
    """At its timeout a handler gets JobTimeout where it is, and its ``finally`` runs."""
    seen = []

    @job(timeout=0.05)
    def handler():
        try:
            work()
        except Exception:  # noqa: BLE001 - as careless handlers do
            seen.append("swallowed")
        finally:
            seen.append("finally")

    started = time.monotonic()
    ending = process.run(handler)
    assert time.monotonic() - started < 5
    assert (ending.state, ending.error.code) == ("failed", "timed-out")
    assert ending.error.type == "JobTimeout"
    assert seen == ["finally"]


def test_a_timeout_is_a_try(process) -> None:
    """A job that ran too long is tried again, whatever ``retry_on`` says."""
    handler = job(timeout=0.01, tries=2, backoff=3, retry_on=())(lambda: busy())
    first, second = process.run(handler), process.run(handler, attempt=2)
    assert (first.state, first.delay_ms, first.error.code) == ("scheduled", 3000, "timed-out")
    assert (second.state, second.error.code) == ("failed", "timed-out")


@pytest.mark.parametrize(
    "wait",
    [
        lambda: asyncio.sleep(20),
        lambda: asyncio.Event().wait(),
        lambda: asyncio.gather(asyncio.sleep(20), asyncio.sleep(20)),
        lambda: asyncio.wait_for(asyncio.sleep(20), 20),
    ],
    ids=["sleep", "event", "gather", "wait_for"],
)
def test_a_timeout_at_an_await(process, wait) -> None:
    """A coroutine gets JobTimeout where it awaits, may clean up, and the loop goes on."""
    seen = []

    @job(timeout=0.05)
    async def handler():
        try:
            await wait()
        except Exception:  # noqa: BLE001 - as careless handlers do
            seen.append("swallowed")
        except JobTimeout:
            seen.append("timeout")
            raise
        finally:
            await asyncio.sleep(0.01)
            seen.append("finally")

    ending = process.run(handler)
    assert ending.error == JobError("timed-out", "JobTimeout", "")
    assert seen == ["timeout", "finally"]

    async def well():
        await asyncio.sleep(0)
        return 1

    assert process.run(well).result == "1"


def test_a_timeout_in_a_busy_coroutine(process) -> None:
    """A coroutine that never awaits gets JobTimeout in the middle of its work."""

    @job(timeout=0.05)
    async def handler():
        busy()

    assert process.run(handler).error.code == "timed-out"


def test_a_timeout_beside_a_busy_task(process) -> None:
    """While another task of the loop is busy, it is the handler that gets JobTimeout."""
    seen = []

    @job(timeout=0.1)
    async def handler():
        async def spin():
            for _ in range(30):
                busy(0.01)
                await asyncio.sleep(0)
            seen.append("done")

        spinning = asyncio.create_task(spin())
        try:
            await asyncio.sleep(20)
        finally:
            await spinning

    assert process.run(handler).error.code == "timed-out"
    assert seen == ["done"]


@pytest.mark.parametrize("wait", [asyncio.sleep, None], ids=["in its body", "at its end"])
def test_the_tasks_of_a_group_end_with_it(process, wait) -> None:
    """What a task group has started ends with the group, and the job has timed out."""
    seen = []

    @job(timeout=0.1, tries=2)
    async def handler():
        async def work():
            try:
                await asyncio.sleep(20)
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise

        async with asyncio.TaskGroup() as group:
            group.create_task(work())
            if wait:
                await wait(20)

    ending = process.run(handler)
    assert (ending.state, ending.error.code) == ("scheduled", "timed-out")
    assert seen == ["cancelled"]


def test_a_swallowed_timeout(process) -> None:
    """A handler that catches JobTimeout and goes on has timed out all the same."""

    @job(timeout=0.05)
    def handler():
        try:
            busy()
        except JobTimeout:
            return "as far as I came"

    @job(timeout=0.05)
    async def async_handler():
        try:
            await asyncio.sleep(20)
        except JobTimeout:
            return "as far as I came"

    for each in (handler, async_handler):
        ending = process.run(each)
        assert (ending.state, ending.error.code) == ("failed", "timed-out")
        assert "went on after its timeout" in ending.error.message


def test_an_error_after_the_timeout_is_a_timeout(process) -> None:
    """What goes wrong while a handler cleans up after JobTimeout does not hide the timeout."""

    @job(timeout=0.05, tries=2, backoff=1, retry_on=())
    def handler():
        try:
            busy()
        finally:
            raise OSError("the file is gone")

    ending = process.run(handler)
    assert (ending.state, ending.error.code, ending.error.type) == (
        *("scheduled", "timed-out", "OSError"),
    )


def test_the_alarm_rings_once(process) -> None:
    """After JobTimeout a handler is left alone to clean up: the rest is its supervisor's."""

    @job(timeout=0.02)
    def handler():
        try:
            busy()
        finally:
            busy(0.1)

    assert process.run(handler).error == JobError("timed-out", "JobTimeout", "")


def test_an_ended_job_gets_no_alarm(process) -> None:
    """A job that ends just in time leaves no alarm to the next."""
    for _ in range(50):
        ending = process.run(job(timeout=0.002)(lambda: busy(0.0019)))
        assert ending.state == "succeeded" or ending.error.code == "timed-out"
    assert process.run(lambda: busy(0.05)).state == "succeeded"


def test_a_cancellation_of_its_own(process) -> None:
    """A coroutine that was cancelled by itself sees CancelledError, not JobTimeout."""

    @job(timeout=20)
    async def handler():
        asyncio.get_running_loop().call_later(0.01, asyncio.current_task().cancel)
        try:
            await asyncio.sleep(20)
        except asyncio.CancelledError:
            return "cancelled"

    assert process.run(handler).result == '"cancelled"'


# Hooks


def sync_hook(seen):
    """A hook that notes what it sees."""

    @contextmanager
    def around(context):
        token = VARIABLE.set(f"set for {context.id}")
        seen.append("before")
        try:
            yield
        except BaseException as error:
            seen.append(type(error).__name__)
            raise
        finally:
            VARIABLE.reset(token)
            seen.append(current_job().id)

    return around


def async_hook(seen):
    """The same as a coroutine, which awaits on the way."""

    @asynccontextmanager
    async def around(context):
        await asyncio.sleep(0)
        token = VARIABLE.set(f"set for {context.id}")
        seen.append("before")
        try:
            yield
        except BaseException as error:
            seen.append(type(error).__name__)
            raise
        finally:
            await asyncio.sleep(0)
            VARIABLE.reset(token)
            seen.append(current_job().id)

    return around


def sync_handler():
    return VARIABLE.get()


async def async_handler():
    await asyncio.sleep(0)
    return VARIABLE.get()


both_hooks = pytest.mark.parametrize("hook", [sync_hook, async_hook])


@both_hooks
@pytest.mark.parametrize("handler", [sync_handler, async_handler])
def test_what_a_hook_sets(process, hook, handler) -> None:
    """Context variables that a hook sets are seen by every handler, and reset afterwards."""
    seen: list = []
    process.around_job = hook(seen)
    assert process.run(handler) == Ending(state="succeeded", result='"set for job-1"')
    assert seen == ["before", "job-1"]
    process.around_job = None
    assert process.run(handler).result == '"unset"'


@both_hooks
@both_kinds
def test_a_hook_sees_the_error(process, hook, make) -> None:
    """A hook sees what its handler raised, and the job fails of it."""
    seen: list = []
    process.around_job = hook(seen)
    assert process.run(make(ZeroDivisionError("oh"))).error.type == "ZeroDivisionError"
    assert seen == ["before", "ZeroDivisionError", "job-1"]


@both_hooks
@pytest.mark.parametrize("handler", [lambda: busy(), lambda: asyncio.sleep(20)])
def test_a_hook_sees_the_timeout(process, hook, handler) -> None:
    """A hook sees JobTimeout too, so that it can roll back."""
    seen: list = []
    process.around_job = hook(seen)
    assert process.run(job(timeout=0.05)(handler)).error.code == "timed-out"
    assert seen == ["before", "JobTimeout", "job-1"]


def test_what_a_job_sets_is_its_own(process) -> None:
    """Context variables that one job sets are not seen by the next."""

    def leave():
        VARIABLE.set("left behind")

    async def leave_later():
        VARIABLE.set("left behind")

    for each in (leave, leave_later):
        process.run(each)
        assert process.run(sync_handler).result == '"unset"'
        assert process.run(async_handler).result == '"unset"'
        assert VARIABLE.get() == "unset"


@pytest.mark.parametrize(
    "hook", [lambda context: 1 / 0, lambda context: "no context manager", lambda: None]
)
def test_a_hook_that_fails(process, hook) -> None:
    """A hook that cannot be entered fails the job."""
    process.around_job = hook
    ending = process.run(sync_handler)
    assert (ending.state, ending.error.code) == ("failed", "exception")


def test_a_hook_that_fails_afterwards(process) -> None:
    """A hook that raises when the handler is done fails the job: its commit did not work."""

    @contextmanager
    def around(context):
        yield
        raise OSError("no commit")

    process.around_job = around
    assert process.run(sync_handler).error == JobError("exception", "OSError", "no commit")


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_entering_what_a_process_needs(process, kind) -> None:
    """A ``lifespan`` of either kind is entered by plain code, and left with the error."""
    seen = []

    @contextmanager
    def lifespan():
        try:
            yield "pool"
        except KeyError:
            seen.append("error")
            raise

    @asynccontextmanager
    async def async_lifespan():
        await asyncio.sleep(0)
        with lifespan() as pool:
            yield pool
        await asyncio.sleep(0)

    manager = lifespan() if kind == "sync" else async_lifespan()
    with pytest.raises(KeyError), process.loop.entered(manager) as pool:
        assert pool == "pool"
        raise KeyError
    assert seen == ["error"]
