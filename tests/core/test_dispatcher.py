import asyncio
import inspect
import json
import logging
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from importlib import import_module

import pytest

from dispatcher_core import (
    Config,
    ConfigError,
    DeliveryError,
    Dispatcher,
    InvalidJob,
    Job,
    MissingSetting,
    NotFound,
    PluginNotFound,
    Response,
    SendFailed,
    WaitTimeout,
    job,
)
from dispatcher_core.wire import MAX_JOB_BODY, decode_dispatch, format_time

SECRET = "A1b2" * 16
CREATED = "2024-01-02T03:04:05.678Z"


@job("greet")
def greet(name: str) -> None:
    """A job with a name of its own."""


@job
class Report:
    """A job that answers to its qualified name."""

    def handle(self) -> None:
        """Does nothing."""


@pytest.fixture
def accept(answer):
    """Answers a dispatch as a receiver does."""
    return lambda request: answer(202, id=request.headers["webhook-id"], state="queued")


@pytest.fixture
def told(answer):
    """Makes the answer to a question for a job's status."""

    def make(state, **members):
        fields = {"id": "job_1", "job": "j", "queue": "q", "attempt": 0, "created_at": CREATED}
        return answer(200, **fields, state=state, **members)

    return make


@pytest.fixture
def no_settings(tmp_path, monkeypatch):
    """A working directory and an environment without settings."""
    monkeypatch.chdir(tmp_path)
    for name in ("URL", "SECRET", "SECRET_FILE", "BILLING_URL", "BILLING_SECRET"):
        monkeypatch.delenv(f"DISPATCHER_BACKEND_{name}", raising=False)


def sent(sender):
    """The jobs in the requests that were sent, decoded as a receiver does."""
    return [decode_dispatch(r.headers["webhook-id"], r.body) for r in sender.requests]


def test_a_job_is_sent_as_described(dispatcher, sender, accept):
    """Name, payload, queue, delay, priority and id arrive as they were given."""
    sender.answers = [accept]
    result = dispatcher.dispatch(
        "greet", {"name": "Ada"}, queue="mail", delay=1.5, priority=-3, id="mine"
    )
    assert (result.ok, result.id, result.state, result.duplicate) == (
        True,
        "mine",
        "queued",
        False,
    )
    [message] = sent(sender)
    assert (message.id, message.job, message.payload) == ("mine", "greet", {"name": "Ada"})
    assert (message.queue, message.delay, message.priority) == ("mail", 1.5, -3)
    assert sender.requests[0].url == "https://backend.test/base/dispatch"


def test_defaults_are_filled_in(dispatcher, sender, accept):
    """A name is enough: then the queue is ``default``, and each job has a new id."""
    sender.answers = [accept]
    assert dispatcher.dispatch("greet").id != dispatcher.dispatch("greet").id
    assert {(m.queue, m.delay, m.priority) for m in sent(sender)} == {("default", 0.0, 0)}


def test_a_callable_stands_for_its_name(dispatcher, sender, accept):
    """A marked function sends its given name, a marked class its qualified one."""
    sender.answers = [accept]
    dispatcher.dispatch(greet, {"name": "Ada"})
    dispatcher.dispatch(Report)
    assert [message.job for message in sent(sender)] == ["greet", f"{__name__}.Report"]


def test_a_job_brings_its_own(dispatcher, sender, accept):
    """A ``Job`` has its own payload, delay, priority and id; its queue wins, if it has one."""
    sender.answers = [accept]
    dispatcher.dispatch(Job("a", {"n": 1}, queue="own", delay=2, priority=4, id="x"), queue="call")
    dispatcher.dispatch(Job("b"), queue="call")
    first, second = sent(sender)
    assert (first.payload, first.queue, first.delay, first.priority) == ({"n": 1}, "own", 2.0, 4)
    assert (first.id, second.queue) == ("x", "call")


@pytest.mark.parametrize(
    "arguments", [{"payload": {}}, {"delay": 1}, {"priority": 1}, {"id": "other"}]
)
def test_a_job_is_not_described_twice(dispatcher, arguments):
    """Arguments that a ``Job`` brings itself are refused beside it."""
    with pytest.raises(InvalidJob, match="set them there"):
        dispatcher.dispatch(Job("a"), **arguments)


def test_a_moment_becomes_a_delay(dispatcher, sender, manual_clock, accept):
    """An aware ``datetime`` is sent as seconds from now; one in the past means now."""
    sender.answers = [accept]
    now = datetime.fromtimestamp(manual_clock.now, UTC)
    for moment in (now + timedelta(seconds=90), now - timedelta(days=1)):
        dispatcher.dispatch("greet", delay=moment)
    dispatcher.dispatch("greet", delay=timedelta(minutes=2))
    assert [message.delay for message in sent(sender)] == [90.0, 0.0, 120.0]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"job": "no good"}, "cannot name a job"),
        ({"job": ""}, "cannot name a job"),
        ({"job": len}, "not marked with @job"),
        ({"job": 7}, "cannot name a job"),
        ({"payload": [1]}, "payload must be a JSON object"),
        ({"payload": {"a": [{"b": {1, 2}}]}}, r"payload\.a\[0\]\.b is a set"),
        ({"payload": {"a": float("nan")}}, r"payload\.a is nan"),
        ({"payload": {1: 2}}, "keys of a JSON object are strings"),
        ({"payload": {"a": 2**63}}, r"payload\.a is an integer beyond"),
        ({"payload": {"a": "\ud800"}}, r"payload\.a has a lone surrogate"),
        ({"queue": "no good"}, "cannot name a queue"),
        ({"queue": None}, "cannot name a queue"),
        ({"delay": -1}, "delay=-1"),
        ({"delay": float("nan")}, "delay=nan"),
        ({"delay": timedelta(days=400)}, "delay="),
        ({"delay": datetime(2030, 1, 1)}, "has no time zone"),
        ({"delay": datetime(2999, 1, 1, tzinfo=UTC)}, "more than a year"),
        ({"delay": "soon"}, "delay='soon'"),
        ({"priority": 101}, "priority=101"),
        ({"priority": 1.5}, "priority=1.5"),
        ({"id": "a b"}, "cannot be an id"),
        ({"id": "x" * 65}, "cannot be an id"),
        ({"payload": {"text": "x" * MAX_JOB_BODY}}, "over the limit"),
    ],
)
def test_a_callers_mistake_is_raised(dispatcher, sender, arguments, problem):
    """What can be seen to be wrong before sending raises, and nothing is sent."""
    with pytest.raises(InvalidJob, match=problem):
        dispatcher.dispatch(**{"job": "greet", **arguments})
    assert sender.requests == []


def test_a_job_may_have_a_whole_mebibyte(dispatcher, sender, accept):
    """The limit counts the body's bytes, and is itself allowed."""
    sender.answers = [accept]
    spare = len(b'{"type":"dispatch","job":"greet","payload":{"text":""},"queue":"default",')
    spare += len(b'"delay":0.0,"priority":0,"trace":null}')
    assert dispatcher.dispatch("greet", {"text": "x" * (MAX_JOB_BODY - spare)}).ok
    assert len(sender.requests[0].body) == MAX_JOB_BODY
    with pytest.raises(InvalidJob):
        dispatcher.dispatch("greet", {"text": "x" * (MAX_JOB_BODY - spare + 1)})


def test_what_may_be_sent_can_be_read(dispatcher, sender, accept):
    """The deepest payload that is let through is one that the receiver takes, in a batch too."""
    sender.answers = [accept]
    deepest = 0
    for depth in range(58, 66):
        value: object = 1
        for _ in range(depth):
            value = [value]
        try:
            dispatcher.dispatch("greet", {"a": value})
            deepest = depth
        except InvalidJob:
            break
    assert deepest == 60
    assert len(sent(sender)) == 3


def test_a_failure_is_a_result(dispatcher, sender, problem):
    """What the backend refuses is a failed result with its code, and raises on demand."""
    sender.answers = [problem(422, "unknown-job", detail="no job is registered as 'greet'")]
    result = dispatcher.dispatch("greet", id="mine")
    assert (result.ok, result.failed, result.id, result.ids) == (False, True, "mine", ("mine",))
    assert (result.state, result.response) == (None, {})
    assert isinstance(result.error, DeliveryError)
    assert (result.error.code, result.error.status) == ("unknown-job", 422)
    with pytest.raises(DeliveryError, match="no job is registered"):
        result.raise_for_error()


def test_an_unreachable_backend_is_a_result(dispatcher, sender):
    """No answer at all is a failed result too."""
    sender.answers = [SendFailed("cannot connect", "unreachable")]
    result = dispatcher.dispatch("greet")
    assert result.error is not None
    assert result.error.code == "unreachable"
    assert len(sender.requests) == 5


def test_a_result_knows_when_to_come_back(dispatcher, sender, problem):
    """Where the backend says when, the error of the result has it."""
    sender.answers = [problem(429, "queue-full", {"retry-after": "60"})]
    error = dispatcher.dispatch("greet").error
    assert isinstance(error, DeliveryError)
    assert error.retry_after == 60.0
    assert len(sender.requests) == 1


def test_results_can_be_in_a_set(dispatcher, sender, accept, problem):
    """A result has a hash, whatever the backend answered."""
    sender.answers = [accept, problem(503, "unavailable")]
    results = [dispatcher.dispatch("greet", id=id) for id in ("one", "two")]
    assert {result.id: result.ok for result in set(results)} == {"one": True, "two": False}


def test_a_failure_is_logged_once(dispatcher, sender, problem, caplog):
    """One line at ERROR with id, job and code, and neither payload nor secret."""
    sender.answers = [problem(503, "unavailable", detail="payload hunter2")]
    with caplog.at_level(logging.DEBUG, "dispatcher"):
        dispatcher.dispatch("greet", {"password": "hunter2"}, id="mine")
    [record] = caplog.records
    assert (record.name, record.levelno) == ("dispatcher", logging.ERROR)
    line = record.getMessage()
    assert all(part in line for part in ("mine", "greet", "unavailable"))
    assert "hunter2" not in line
    assert SECRET not in line


def test_a_success_is_not_logged_as_an_error(dispatcher, sender, accept, caplog):
    """A dispatch that went well logs nothing from INFO on."""
    sender.answers = [accept]
    with caplog.at_level(logging.INFO, "dispatcher"):
        dispatcher.dispatch("greet")
    assert caplog.records == []


def test_dispatching_again_keeps_the_id(dispatcher, sender, answer):
    """With the failed result's id the same job is sent, which the backend then knows."""

    def duplicate(request):
        known = request.headers["webhook-id"]
        return answer(200, id=known, state="running", duplicate=True)

    sender.answers = [SendFailed("cut off", retryable=False), duplicate]
    first = dispatcher.dispatch("greet", {"name": "Ada"})
    second = dispatcher.dispatch("greet", {"name": "Ada"}, id=first.id)
    assert first.failed
    assert (second.id, second.state, second.duplicate) == (first.id, "running", True)
    assert sender.requests[0].body == sender.requests[1].body


@pytest.mark.parametrize("status", [200, 202])
def test_an_answer_about_another_job_is_a_failure(dispatcher, sender, answer, status):
    """Only an answer with our id is a success."""
    sender.answers = [answer(status, id="other", state="queued")]
    result = dispatcher.dispatch("greet")
    assert result.error is not None
    assert result.error.code == "bad-answer"
    assert len(sender.requests) == 1


def test_a_status_is_asked_for(dispatcher, sender, told):
    """``status`` sends a signed GET and decodes the answer."""
    sender.answers = [told("running", progress={"done": 1, "total": 3})]
    status = dispatcher.status("job_1")
    assert (status.state, status.progress.percent) == ("running", 33)
    request = sender.requests[0]
    assert (request.method, request.url) == ("GET", "https://backend.test/base/jobs/job_1")
    assert request.headers["webhook-id"] != "job_1"


def test_a_cancel_is_a_delete(dispatcher, sender, told):
    """``cancel`` sends a signed DELETE and returns the status after it."""
    sender.answers = [told("cancelled", cancel_requested=True)]
    assert dispatcher.cancel("job_1").state == "cancelled"
    assert sender.requests[0].method == "DELETE"


@pytest.mark.parametrize("method", ["status", "cancel", "wait"])
def test_an_unknown_job_is_not_found(dispatcher, sender, problem, method):
    """A job that the backend does not know raises ``NotFound`` with the id."""
    sender.answers = [problem(404, "not-found")]
    with pytest.raises(NotFound, match="job_1") as caught:
        getattr(dispatcher, method)("job_1")
    assert (caught.value.code, caught.value.status) == ("not-found", 404)


@pytest.mark.parametrize("method", ["status", "cancel", "wait"])
@pytest.mark.parametrize("id", ["", "a/b", "../ping", "é", None, 7])
def test_what_cannot_be_an_id_is_not_sent(dispatcher, sender, method, id):
    """An ill-formed id is the caller's mistake."""
    with pytest.raises(InvalidJob, match="cannot be an id"):
        getattr(dispatcher, method)(id)
    assert sender.requests == []


@pytest.mark.parametrize("method", ["status", "cancel"])
def test_a_refusal_is_raised(dispatcher, sender, problem, method):
    """What is refused otherwise raises with the problem's code."""
    sender.answers = [problem(401, "bad-signature")]
    with pytest.raises(DeliveryError, match="same secret") as caught:
        getattr(dispatcher, method)("job_1")
    assert not isinstance(caught.value, NotFound)
    assert caught.value.code == "bad-signature"


def test_a_ping_tells_what_the_backend_tells(dispatcher, sender, answer, manual_clock):
    """``ping`` returns skew, workers and versions."""
    time = format_time(datetime.fromtimestamp(manual_clock.now - 1.5, UTC))
    sender.answers = [answer(200, time=time, versions=[1], workers=2)]
    pong = dispatcher.ping()
    assert (pong.reachable, pong.secret_accepted) == (True, True)
    assert (pong.clock_skew, pong.workers, pong.versions) == (-1.5, 2, (1,))


def test_a_ping_with_a_wrong_secret_says_so(dispatcher, sender, problem):
    """A refused signature is an answer to a ping."""
    sender.answers = [problem(401, "bad-signature")]
    pong = dispatcher.ping()
    assert (pong.reachable, pong.secret_accepted) == (True, False)


def test_a_ping_into_the_void_is_raised(dispatcher, sender):
    """Where nobody answers, ``ping`` raises."""
    sender.answers = [SendFailed("cannot connect")]
    with pytest.raises(DeliveryError, match="cannot connect"):
        dispatcher.ping()


def test_a_wait_looks_less_and_less_often(dispatcher, sender, told, manual_clock):
    """A wait begins with short pauses that grow to a second, and returns the last status."""
    sender.answers = [*[told("queued")] * 14, told("succeeded", result=42)]
    status = dispatcher.wait("job_1")
    assert (status.state, status.result) == ("succeeded", 42)
    assert manual_clock.slept[0] == 0.02
    assert manual_clock.slept == sorted(manual_clock.slept)
    assert manual_clock.slept[-1] == 1.0


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled"])
def test_a_wait_ends_with_any_final_state(dispatcher, sender, told, manual_clock, state):
    """A job that has ended already is returned at once."""
    sender.answers = [told(state)]
    assert dispatcher.wait("job_1", timeout=0).state == state
    assert manual_clock.slept == []


def test_passing_trouble_does_not_end_a_wait(dispatcher, sender, told, problem, caplog):
    """Failed looks are logged once each time they begin, and the wait goes on."""
    trouble = [SendFailed("cut off")] * 6 + [problem(503, "unavailable")] * 6
    again = [Response(502, {}, b"")] * 6
    sender.answers = [*trouble, told("running"), *again, told("succeeded")]
    assert dispatcher.wait("job_1").state == "succeeded"
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2


@pytest.mark.parametrize("code", ["bad-signature", "timestamp-out-of-range"])
def test_a_refusal_for_good_ends_a_wait(dispatcher, sender, problem, code):
    """A wait does not go on where no later look could be better."""
    sender.answers = [problem(401, code)]
    with pytest.raises(DeliveryError) as caught:
        dispatcher.wait("job_1")
    assert caught.value.code == code


def test_a_tls_failure_ends_a_wait(dispatcher, sender):
    """Nor does it where the backend's certificate is wrong."""
    sender.answers = [SendFailed("not trusted", "tls-failed", retryable=False)]
    with pytest.raises(DeliveryError, match="not trusted"):
        dispatcher.wait("job_1")


def by_path(status, ping):
    """Answers a question for the job and a ping, each with its own."""
    return lambda request: ping if request.url.endswith("/ping") else status


@pytest.mark.parametrize(
    ("workers", "message"),
    [
        (0, "still queued, no worker alive"),
        (2, "still queued"),
        (None, "still queued"),
    ],
)
def test_a_wait_in_vain_says_why(dispatcher, sender, told, answer, manual_clock, workers, message):
    """A wait that times out carries the last status and says it, and what workers there are."""
    pong = answer(200, versions=[1], workers=workers)
    sender.answers = [by_path(told("queued"), pong)]
    with pytest.raises(WaitTimeout) as caught:
        dispatcher.wait("job_1", timeout=3.0)
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.status.state == "queued"
    assert str(caught.value) == f"the job job_1 did not end within 3 s: {message}"
    assert manual_clock.elapsed == pytest.approx(3.0)


def test_a_wait_in_vain_tells_the_progress(dispatcher, sender, told):
    """A job that still runs tells how far it is; nobody is asked for workers."""
    sender.answers = [told("running", progress={"done": 2, "total": 4})]
    with pytest.raises(WaitTimeout, match="still running, 50 % done"):
        dispatcher.wait("job_1", timeout=1)
    assert not any(request.url.endswith("/ping") for request in sender.requests)


def test_a_wait_without_any_answer_says_so(dispatcher, sender, manual_clock):
    """A backend that never answers is told apart from a job that takes long."""
    sender.answers = [SendFailed("cannot connect")]
    with pytest.raises(WaitTimeout, match=r"no answer .*cannot connect") as caught:
        dispatcher.wait("job_1", timeout=2)
    assert caught.value.status is None
    assert manual_clock.elapsed == pytest.approx(2.0, abs=0.6)


def test_a_wait_remembers_the_last_status(dispatcher, sender, told):
    """When the backend goes away, the error still has what it said last."""
    sender.answers = [told("running"), SendFailed("cannot connect")]
    with pytest.raises(WaitTimeout, match="running when the backend last answered") as caught:
        dispatcher.wait("job_1", timeout=2)
    assert caught.value.status.state == "running"


def test_a_wait_looks_a_last_time(dispatcher, sender, told):
    """A job that ends during the last pause is seen to have ended."""
    sender.answers = [told("queued"), told("succeeded")]
    assert dispatcher.wait("job_1", timeout=0.01).state == "succeeded"


@pytest.mark.parametrize("timeout", [10**400, float("inf")], ids=["huge", "infinite"])
def test_a_wait_may_be_endless(dispatcher, sender, told, timeout):
    """A timeout beyond all clocks is a long one."""
    sender.answers = [told("queued"), told("succeeded")]
    assert dispatcher.wait("job_1", timeout=timeout).state == "succeeded"


@pytest.mark.parametrize("timeout", [-1, float("nan"), "1"])
def test_a_wait_takes_seconds(dispatcher, timeout):
    """A timeout that is none is refused."""
    with pytest.raises(InvalidJob, match="timeout="):
        dispatcher.wait("job_1", timeout=timeout)


def test_everything_is_a_coroutine_too(dispatcher, sender, accept, told, answer):
    """Each method has a coroutine that returns the same."""

    async def use():
        sender.answers = [accept]
        result = await dispatcher.adispatch("greet", {"name": "Ada"}, "mail", delay=1, priority=2)
        sender.answers = [told("running"), told("succeeded")]
        ended = await dispatcher.await_("job_1", timeout=5)
        status = await dispatcher.astatus("job_1")
        sender.answers = [told("cancelled")]
        cancelled = await dispatcher.acancel("job_1")
        sender.answers = [answer(200, versions=[1])]
        return result, ended, status, cancelled, await dispatcher.aping()

    result, ended, status, cancelled, pong = asyncio.run(use())
    assert result.ok
    first = sender.requests[0]
    message = decode_dispatch(first.headers["webhook-id"], first.body)
    assert (message.queue, message.delay, message.priority) == ("mail", 1.0, 2)
    assert (ended.state, status.state, cancelled.state) == ("succeeded", "succeeded", "cancelled")
    assert pong.secret_accepted


@pytest.mark.parametrize("name", ["dispatch", "status", "wait", "cancel", "ping"])
def test_coroutines_take_the_same_arguments(name):
    """A coroutine has the parameters of the method it stands for."""
    twin = {"wait": "await_"}.get(name, f"a{name}")
    assert inspect.iscoroutinefunction(getattr(Dispatcher, twin))
    assert inspect.signature(getattr(Dispatcher, twin)) == inspect.signature(
        getattr(Dispatcher, name)
    )


def test_the_event_loop_goes_on(told):
    """While a coroutine waits for an answer, others run; a wait can be cancelled."""
    asked, go_on = threading.Event(), threading.Event()

    class Slow:
        def send(self, request, timeout):
            asked.set()
            assert go_on.wait(30)
            return told("running")

    async def use():
        dispatcher = Dispatcher(Config(url="https://b.test", secret=SECRET), sender=Slow())
        waiting = asyncio.create_task(dispatcher.await_("job_1"))
        assert await asyncio.to_thread(asked.wait, 30)
        go_on.set()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(asyncio.wait_for(use(), 60))


def test_nothing_is_needed_to_make_one(no_settings):
    """Making a dispatcher without settings works; using it names what is missing."""
    for dispatcher in (Dispatcher(), Dispatcher.from_env(), Dispatcher.from_env("billing")):
        for use in (lambda d: d.dispatch("greet"), lambda d: d.status("a"), lambda d: d.ping()):
            with pytest.raises(MissingSetting, match="DISPATCHER_BACKEND_"):
                use(dispatcher)


@pytest.mark.parametrize("config", [{"url": "https://b.test"}, "https://b.test", 0])
def test_a_config_is_one(config):
    """What is no ``Config`` is refused at once, with a word on what is."""
    with pytest.raises(ConfigError, match=rf"takes a Config.*no {type(config).__name__}$"):
        Dispatcher(config)


def test_the_secret_is_needed_too(no_settings):
    """A URL alone is not enough, and the message names the variable of the secret."""
    with pytest.raises(MissingSetting, match="DISPATCHER_BACKEND_SECRET"):
        Dispatcher(Config(url="https://b.test")).dispatch("greet")


def test_settings_come_from_the_environment(no_settings, monkeypatch, sender, accept):
    """``from_env`` reads URL and secret, for a named backend its own."""
    monkeypatch.setenv("DISPATCHER_BACKEND_URL", "https://one.test/")
    monkeypatch.setenv("DISPATCHER_BACKEND_SECRET", SECRET)
    monkeypatch.setenv("DISPATCHER_BACKEND_BILLING_URL", "https://two.test/x")
    monkeypatch.setenv("DISPATCHER_BACKEND_BILLING_SECRET", SECRET.swapcase())
    sender.answers = [accept]
    for backend in (None, "billing"):
        dispatcher = Dispatcher.from_env(backend)
        monkeypatch.setattr(dispatcher, "_sender", sender)
        assert dispatcher.dispatch("greet", id="a").ok
    one, two = sender.requests
    assert (one.url, two.url) == ("https://one.test/dispatch", "https://two.test/x/dispatch")
    assert one.body == two.body
    assert one.headers["webhook-signature"] != two.headers["webhook-signature"]


def test_a_wrong_setting_is_an_error(no_settings, monkeypatch):
    """What is set but wrong is refused when it is read."""
    monkeypatch.setenv("DISPATCHER_BACKEND_URL", "ftp://one.test")
    with pytest.raises(ConfigError, match="DISPATCHER_BACKEND_URL"):
        Dispatcher.from_env()


def test_the_configured_times_hold(sender, accept):
    """One try may take ``timeout`` seconds."""
    sender.answers = [accept]
    config = Config(url="https://b.test", secret=SECRET, timeout=2.5, deadline=60)
    Dispatcher(config, sender=sender).dispatch("greet")
    assert sender.timeouts == [2.5]


@pytest.fixture
def counting_plugin(tmp_path, monkeypatch):
    """An installed package with the sender ``counting``, which counts how often it is made."""
    (tmp_path / "counting_sender.py").write_text(
        "import json\n"
        "from dispatcher_core import Response\n"
        "made = []\n"
        "class Counting:\n"
        "    def __init__(self):\n"
        "        made.append(self)\n"
        "    def send(self, request, timeout):\n"
        "        answer = {'id': request.headers['webhook-id'], 'state': 'queued'}\n"
        "        return Response(202, {}, json.dumps(answer).encode())\n"
    )
    folder = tmp_path / "counting_sender-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: counting-sender\nVersion: 1.0\n"
    )
    (folder / "entry_points.txt").write_text(
        "[dispatcher.senders]\ncounting = counting_sender:Counting\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("counting_sender", None)


def test_the_sender_is_loaded_by_name_and_kept(counting_plugin):
    """The plugin that the settings name is made at the first call and used for all."""
    dispatcher = Dispatcher(Config(url="https://b.test", secret=SECRET, sender="counting"))
    assert dispatcher.dispatch("greet").ok
    assert dispatcher.dispatch("greet").ok
    assert len(import_module("counting_sender").made) == 1


def test_a_sender_that_is_not_installed_is_named():
    """A wrong name lists what is installed."""
    dispatcher = Dispatcher(Config(url="https://b.test", secret=SECRET, sender="carrier-pigeon"))
    with pytest.raises(PluginNotFound, match="carrier-pigeon"):
        dispatcher.dispatch("greet")


def test_threads_share_a_dispatcher(accept):
    """Many threads may dispatch through one dispatcher, each getting its own result."""

    class Sender:
        def send(self, request, timeout):
            return accept(request)

    dispatcher = Dispatcher(Config(url="https://b.test", secret=SECRET), sender=Sender())
    with ThreadPoolExecutor(8) as threads:
        ids = [f"id_{number}" for number in range(200)]
        results = list(threads.map(lambda each: dispatcher.dispatch("greet", id=each), ids))
    assert [result.id for result in results] == ids
    assert all(result.ok for result in results)


def test_a_dispatch_is_plain_json(dispatcher, sender, accept):
    """The body is the JSON of the wire format, in UTF-8 and without blanks."""
    sender.answers = [accept]
    dispatcher.dispatch("greet", {"name": "Zoë"})
    body = sender.requests[0].body
    assert "Zoë".encode() in body
    assert json.loads(body) == {
        "type": "dispatch",
        "job": "greet",
        "payload": {"name": "Zoë"},
        "queue": "default",
        "delay": 0.0,
        "priority": 0,
        "trace": None,
    }
