import asyncio
import json
import subprocess
import sys
import textwrap
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from wsgiref.validate import validator

import pytest

from dispatcher_core import (
    Cancelled,
    Config,
    Dispatcher,
    IdReused,
    InvalidJob,
    Job,
    JobError,
    NoCurrentJob,
    NotFound,
    Progress,
    QueueFull,
    Request,
    Signer,
    WaitTimeout,
    current_job,
    job,
)
from dispatcher_core.testing import (
    FakeDispatcher,
    MemoryQueue,
    WSGISender,
    check_queue,
    job_context,
)
from dispatcher_core.wire import decode_dispatch

SECRET = "A1b2" * 16


@job("greet")
def greet(name: str) -> None:
    """A job."""


def message(id="job_1", **members):
    """A job as a receiver decodes it."""
    body = {"type": "dispatch", "job": "greet", **members}
    return decode_dispatch(id, json.dumps(body).encode())


# The fake dispatcher


def test_a_fake_needs_no_settings(monkeypatch):
    """Jobs are accepted without URL and secret, and stay queued."""
    monkeypatch.delenv("DISPATCHER_BACKEND_URL", raising=False)
    fake = FakeDispatcher()
    result = fake.dispatch("greet", {"name": "Ada"})
    assert (result.ok, result.state, result.duplicate) == (True, "queued", False)
    status = fake.status(result.id)
    assert (status.id, status.job, status.state) == (result.id, "greet", "queued")
    assert fake.dispatch("greet", delay=60).state == "scheduled"


def test_a_fake_records_what_it_is_given():
    """Accepted jobs are listed in order, each with all that would have been sent."""
    fake = FakeDispatcher()
    fake.dispatch(greet, {"name": "Ada"}, queue="mail", priority=3)
    fake.dispatch(Job("other", delay=5, id="mine"))
    first, second = fake.dispatched
    assert (first.job, first.payload, first.queue, first.priority) == (
        "greet",
        {"name": "Ada"},
        "mail",
        3,
    )
    assert (second.id, second.job, second.delay) == ("mine", "other", 5.0)


def test_assert_dispatched_finds_jobs():
    """Jobs are found by name or callable, payload, queue, and how many there are."""
    fake = FakeDispatcher()
    fake.dispatch(greet, {"name": "Ada", "tags": ("a", "b")}, queue="mail")
    fake.dispatch("greet", {"name": "Bob"})
    assert len(fake.assert_dispatched("greet")) == 2
    assert len(fake.assert_dispatched(greet, times=2)) == 2
    [found] = fake.assert_dispatched("greet", {"name": "Ada", "tags": ("a", "b")}, times=1)
    assert found.queue == "mail"
    fake.assert_dispatched("greet", queue="default", times=1)
    fake.assert_dispatched("never", times=0)
    fake.assert_dispatched("greet", {}, times=0)


@pytest.mark.parametrize(
    "arguments",
    [
        {"job": "other"},
        {"job": greet, "payload": {"name": "Bob"}},
        {"job": greet, "payload": {}},
        {"job": greet, "queue": "default"},
        {"job": greet, "times": 0},
        {"job": greet, "times": 2},
    ],
)
def test_assert_dispatched_fails_with_what_there_is(arguments):
    """A failed assertion lists the jobs that were dispatched."""
    fake = FakeDispatcher()
    fake.dispatch(greet, {"name": "Ada"}, queue="mail")
    with pytest.raises(
        AssertionError, match=r"dispatched: 'greet' with {'name': 'Ada'} in 'mail'"
    ):
        fake.assert_dispatched(**arguments)


def test_assert_nothing_dispatched():
    """It passes on a fresh fake, and lists what there is otherwise."""
    fake = FakeDispatcher()
    fake.assert_nothing_dispatched()
    fake.dispatch("greet")
    with pytest.raises(AssertionError, match=r"expected no job.*greet"):
        fake.assert_nothing_dispatched()


def test_a_fake_refuses_a_callers_mistake():
    """What the real dispatcher raises, the fake raises."""
    fake = FakeDispatcher()
    for arguments in ({"delay": -1}, {"payload": {"a": object()}}, {"id": "a b"}):
        with pytest.raises(InvalidJob):
            fake.dispatch("greet", **arguments)
    fake.assert_nothing_dispatched()


def test_a_fake_answers_duplicates_as_a_backend():
    """The same job again is a duplicate with its present state; another is refused."""
    fake = FakeDispatcher()
    fake.dispatch("greet", {"name": "Ada"}, id="mine")
    fake.set_status("mine", state="running")
    again = fake.dispatch("greet", {"name": "Ada"}, id="mine", delay=5)
    assert (again.ok, again.duplicate, again.state) == (True, True, "running")
    other = fake.dispatch("greet", {"name": "Bob"}, id="mine")
    assert other.error is not None
    assert other.error.code == "id-reused"
    fake.assert_dispatched("greet", times=1)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("unreachable", None),
        ("tls-failed", None),
        ("timeout", 408),
        ("bad-answer", 200),
        ("rejected", 403),
        ("bad-signature", 401),
        ("unknown-job", 422),
        ("queue-full", 429),
        ("internal", 500),
        ("unavailable", 503),
    ],
)
def test_a_fake_fails_on_demand(code, status):
    """The next call fails as it would in production, and the one after it does not."""
    fake = FakeDispatcher()
    fake.fail_next(code)
    result = fake.dispatch("greet")
    assert result.failed
    assert (result.error.code, result.error.status) == (code, status)
    assert result.error.retry_after == (1.0 if code in ("queue-full", "unavailable") else None)
    fake.assert_nothing_dispatched()
    assert fake.dispatch("greet", id=result.id).ok


def test_failures_queue_up():
    """Each call of ``fail_next`` is for one more call, of any kind."""
    fake = FakeDispatcher()
    fake.fail_next("not-found")
    fake.fail_next("unreachable")
    with pytest.raises(NotFound):
        fake.status("mine")
    assert fake.dispatch("greet").failed
    assert fake.dispatch("greet").ok


def test_a_failure_has_a_known_code():
    """A misspelt code is refused."""
    with pytest.raises(ValueError, match="unknown-job"):
        FakeDispatcher().fail_next("unknown_job")


def test_a_status_is_set_by_the_test():
    """Fields of a status are set one by one; a final state has an end."""
    fake = FakeDispatcher()
    fake.dispatch("greet", id="mine")
    fake.set_status("mine", state="running", attempt=1, progress=Progress(1, 4))
    assert fake.status("mine").progress == Progress(1, 4)
    fake.set_status("mine", state="failed", error=JobError("exception", "ValueError", "no"))
    status = fake.status("mine")
    assert (status.job, status.state, status.attempt) == ("greet", "failed", 1)
    assert status.error == JobError("exception", "ValueError", "no")
    assert status.finished_at is not None
    assert fake.wait("mine") == status


def test_a_status_may_be_that_of_another_jobs():
    """An id from elsewhere gets a status too; an unknown one has none."""
    fake = FakeDispatcher()
    fake.set_status("stored", state="succeeded", result=[1])
    assert fake.status("stored").result == [1]
    with pytest.raises(NotFound):
        fake.status("other")
    fake.assert_nothing_dispatched()


def test_a_wrong_status_is_refused():
    """A misspelt state or field is an error in the test."""
    fake = FakeDispatcher()
    with pytest.raises(ValueError, match="done"):
        fake.set_status("a", state="done")
    with pytest.raises(TypeError, match="stat"):
        fake.set_status("a", stat="queued")


def test_a_fake_cancels():
    """A waiting job is cancelled, a running one asked to stop, a finished one left alone."""
    fake = FakeDispatcher()
    ids = [fake.dispatch("greet").id for _ in range(3)]
    fake.set_status(ids[1], state="running")
    fake.set_status(ids[2], state="succeeded")
    states = [fake.cancel(each) for each in ids]
    assert [status.state for status in states] == ["cancelled", "running", "succeeded"]
    assert [status.cancel_requested for status in states] == [True, True, False]


def test_a_fake_answers_a_ping():
    """A ping says that all is well, and nothing of workers."""
    pong = FakeDispatcher().ping()
    assert (pong.secret_accepted, pong.workers, pong.versions) == (True, None, (1,))
    assert abs(pong.clock_skew) < 5


def test_a_wait_for_a_fake_takes_no_time():
    """A wait in vain ends at once, also without a timeout, with a hint what to do."""
    fake = FakeDispatcher()
    fake.dispatch("greet", id="mine")
    with pytest.raises(WaitTimeout, match="still queued"):
        fake.wait("mine", timeout=600)
    with pytest.raises(AssertionError, match="set_status"):
        fake.wait("mine")


def test_a_fake_has_the_coroutines():
    """The coroutines go to the fake too."""

    async def use():
        fake = FakeDispatcher()
        result = await fake.adispatch("greet")
        with pytest.raises(WaitTimeout):
            await fake.await_(result.id, timeout=60)
        return fake, (await fake.acancel(result.id)).state, (await fake.astatus(result.id)).state

    fake, *states = asyncio.run(use())
    assert states == ["cancelled", "cancelled"]
    fake.assert_dispatched("greet", times=1)


# The pytest plugin

module_global = Dispatcher.from_env()


def test_the_fixture_catches_every_dispatcher(fake_dispatcher):
    """Dispatchers made before, after, with settings and with a sender all go to the fake."""

    class Sender:
        def send(self, request, timeout):
            raise AssertionError("something was sent")

    config = Config(url="https://b.test", secret=SECRET)
    dispatchers = [
        module_global,
        Dispatcher(),
        Dispatcher(config, sender=Sender()),
        Dispatcher.from_env("billing"),
    ]
    for number, dispatcher in enumerate(dispatchers):
        assert dispatcher.dispatch("greet", {"name": str(number)}).ok
    assert len(fake_dispatcher.assert_dispatched("greet", times=4)) == 4


def test_the_plugin_works_in_a_project_of_its_own(tmp_path):
    """In another project the fixture is there by itself, for one test at a time."""
    (tmp_path / "shop.py").write_text(
        textwrap.dedent(
            """
            from dispatcher_core import Dispatcher

            dispatcher = Dispatcher.from_env()

            def sell():
                return dispatcher.dispatch("pay", {"amount": 7}).state
            """
        )
    )
    (tmp_path / "test_shop.py").write_text(
        textwrap.dedent(
            """
            import pytest
            import shop
            from dispatcher_core import MissingSetting

            def test_caught(fake_dispatcher):
                assert shop.sell() == "queued"
                fake_dispatcher.assert_dispatched("pay", {"amount": 7}, times=1)

            def test_fresh(fake_dispatcher):
                fake_dispatcher.assert_nothing_dispatched()
                fake_dispatcher.fail_next()
                assert shop.sell() is None

            def test_without():
                with pytest.raises(MissingSetting):
                    shop.sell()
            """
        )
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    environment = {"PATH": "", "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


# The queue in memory


def test_the_memory_queue_conforms():
    """The queue in memory passes the suite that every queue passes."""
    check_queue(MemoryQueue)


def test_a_memory_queue_is_made_from_a_url():
    """Each is its own."""
    first, second = MemoryQueue.from_url("memory:"), MemoryQueue.from_url("memory:")
    first.put(message())
    assert first.find_job("job_1") is not None
    assert second.find_job("job_1") is None


def test_a_full_memory_queue_refuses():
    """Jobs that wait count, finished ones do not; a known job is never refused."""
    queue = MemoryQueue(max_jobs=2)
    assert queue.put(message("a"))
    assert queue.put(message("b", delay=60))
    with pytest.raises(QueueFull):
        queue.put(message("c"))
    assert queue.put(message("a")) is False
    queue.cancel_job("a")
    assert queue.put(message("c"))


def test_a_memory_queue_reads_the_time():
    """A delay is counted from the moment of the put, in milliseconds."""
    now = datetime(2024, 5, 6, 7, 8, 9, 123_456, tzinfo=UTC)
    queue = MemoryQueue(now=lambda: now)
    queue.put(message(delay=1.5))
    status = queue.find_job("job_1")
    assert status.created_at == now.replace(microsecond=123_000)
    assert status.available_at - status.created_at == timedelta(seconds=1.5)


class Forgetful(MemoryQueue):
    """Accepts an id twice."""

    def put(self, job):
        """Keep it, whether it is known or not."""
        if self.find_job(job.id) is not None:
            return True
        return super().put(job)


class Confused(MemoryQueue):
    """Takes another job for the same."""

    def put(self, job):
        """Never say that an id is used."""
        try:
            return super().put(job)
        except IdReused:
            return False


class Impatient(MemoryQueue):
    """Ignores delays."""

    def put(self, job):
        """Put it without its delay."""
        return super().put(replace(job, delay=0.0))


class Exact(MemoryQueue):
    """Tells times that do not survive being sent."""

    def find_job(self, id):
        """Add some microseconds."""
        status = super().find_job(id)
        at = None if status is None else status.created_at.replace(microsecond=1)
        return None if status is None else replace(status, created_at=at)


class Stubborn(MemoryQueue):
    """Does not cancel."""

    def cancel_job(self, id):
        """Leave it as it is."""
        return self.find_job(id)


@pytest.mark.parametrize("queue", [Forgetful, Confused, Impatient, Exact, Stubborn])
def test_the_suite_finds_a_wrong_queue(queue):
    """A queue that breaks one of the rules does not pass."""
    with pytest.raises(AssertionError):
        check_queue(queue)


# Sending into a WSGI application


def echo(environ, start_response):
    """Answers with what it was sent."""
    length = environ.get("CONTENT_LENGTH")
    body = environ["wsgi.input"].read(int(length)) if length else b""
    seen = {key: value for key, value in environ.items() if isinstance(value, str)}
    seen["body"] = body.decode()
    data = json.dumps(seen).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(data)))]
    start_response("200 OK", [*headers, ("X-Seen", "a"), ("x-seen", "b")])
    return [data]


def send(app, method="POST", path="/base/dispatch", body=b"{}", **headers):
    """The answer of a validated application."""
    fields = {"content-type": "application/json", "webhook-id": "job_1", **headers}
    if method != "POST":
        del fields["content-type"]
    request = Request(method, f"https://app.test:8443{path}", fields, body)
    return WSGISender(validator(app)).send(request, 5.0)


def test_a_wsgi_application_sees_the_request():
    """Method, path, headers and body arrive as a server would hand them on."""
    response = send(echo, body='{"a":"é"}'.encode())
    seen = json.loads(response.body)
    assert (seen["REQUEST_METHOD"], seen["SCRIPT_NAME"]) == ("POST", "")
    assert (seen["PATH_INFO"], seen["QUERY_STRING"]) == ("/base/dispatch", "")
    assert (seen["CONTENT_TYPE"], seen["CONTENT_LENGTH"]) == ("application/json", "10")
    assert (seen["HTTP_WEBHOOK_ID"], seen["HTTP_HOST"]) == ("job_1", "app.test:8443")
    assert (seen["SERVER_NAME"], seen["SERVER_PORT"]) == ("app.test", "8443")
    assert (seen["wsgi.url_scheme"], seen["body"]) == ("https", '{"a":"é"}')


def test_a_wsgi_answer_is_a_response():
    """Status, body and headers come back, their names in lower case and joined."""
    response = send(echo)
    assert response.status == 200
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-seen"] == "a, b"


def test_a_get_has_no_length():
    """A request without body says nothing of a length; an empty POST says 0."""
    seen = json.loads(send(echo, "GET", "/jobs/abc", b"").body)
    assert "CONTENT_LENGTH" not in seen
    assert "CONTENT_TYPE" not in seen
    assert json.loads(send(echo, body=b"").body)["CONTENT_LENGTH"] == "0"


def test_a_path_is_decoded_as_servers_do():
    """Escapes become bytes, a query stands apart."""
    seen = json.loads(send(echo, "GET", "/a%2Fb/%C3%A9?x=1", b"").body)
    assert seen["PATH_INFO"].encode("latin-1") == "/a/b/é".encode()
    assert seen["QUERY_STRING"] == "x=1"


def test_an_iterable_is_closed():
    """The application's iterable is closed, also when it fails in the middle."""
    closed = []

    class Body:
        def __init__(self, fails):
            self.fails = fails

        def __iter__(self):
            yield b"a"
            if self.fails:
                raise RuntimeError("broke")
            yield b"b"

        def close(self):
            closed.append(self.fails)

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return Body(environ["PATH_INFO"] == "/fail")

    assert send(app, path="/ok").body == b"ab"
    request = Request("GET", "http://app.test/fail", {})
    with pytest.raises(RuntimeError, match="broke"):
        WSGISender(app).send(request, 5.0)
    assert closed == [False, True]


def test_start_response_may_be_called_late_and_written_to():
    """A generator starts its answer when it is iterated; ``write`` comes before the rest."""

    def app(environ, start_response):
        write = start_response("201 Created", [("Content-Type", "text/plain")])
        write(b"a")
        yield b"b"

    response = send(app)
    assert (response.status, response.body) == (201, b"ab")


def test_an_error_may_replace_an_answer_that_has_not_begun():
    """With ``exc_info`` the answer is replaced, unless part of it has gone out."""

    def app(environ, start_response):
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        if environ["PATH_INFO"] == "/late":
            write(b"a")
        try:
            raise RuntimeError("broke")
        except RuntimeError:
            start_response("500 Oops", [("Content-Type", "text/plain")], sys.exc_info())
        return [b"sorry"]

    assert send(app).status == 500
    with pytest.raises(RuntimeError, match="broke"):
        send(app, path="/late")


def test_a_wrong_application_is_found_out():
    """An application that starts no answer, or two, is an error."""

    def silent(environ, start_response):
        return [b"x"]

    def twice(environ, start_response):
        start_response("200 OK", [])
        start_response("200 OK", [])
        return []

    request = Request("GET", "http://app.test/", {})
    for app in (silent, twice):
        with pytest.raises(AssertionError, match="start_response"):
            WSGISender(app).send(request, 5.0)


def test_a_dispatcher_sends_into_an_application():
    """A whole dispatch runs in one process, signature included."""
    queue = MemoryQueue()

    def app(environ, start_response):
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        names = ("id", "timestamp", "signature")
        headers = {f"webhook-{name}": environ[f"HTTP_WEBHOOK_{name.upper()}"] for name in names}
        Signer(SECRET).verify(headers, body, datetime.now(UTC).timestamp())
        queue.put(decode_dispatch(headers["webhook-id"], body))
        data = json.dumps({"id": headers["webhook-id"], "state": "queued"}).encode()
        start_response("202 Accepted", [("Content-Type", "application/json")])
        return [data]

    config = Config(url="http://localhost/dispatcher", secret=SECRET)
    dispatcher = Dispatcher(config, sender=WSGISender(validator(app)))
    result = dispatcher.dispatch(greet, {"name": "Ada"})
    assert result.ok
    assert [job.payload for job in queue.jobs] == [{"name": "Ada"}]


# The context of a job


def handler(steps: int) -> str:
    """A handler that reports, and stops when asked to."""
    current = current_job()
    for step in range(steps):
        current.report_progress(step + 1, steps)
        if current.cancel_requested:
            raise Cancelled
    return f"{current.name} {current.id} {current.queue} {current.attempt}/{current.tries}"


def test_a_handler_runs_in_a_test():
    """The fields are those that were given; progress is recorded."""
    with job_context(id="a", name="b", queue="c", attempt=2, tries=3) as context:
        assert handler(2) == "b a c 2/3"
        assert context.reported == [Progress(1, 2), Progress(2, 2)]
    with pytest.raises(NoCurrentJob, match="job_context"):
        current_job()


def test_a_context_has_defaults():
    """Nothing needs to be given; ids are fresh."""
    with job_context() as first, job_context() as second:
        assert current_job() is second
        assert first.id != second.id
        assert (first.attempt, first.tries, first.batch_id, first.resources) == (1, 1, None, None)
        assert first.reported == []


def test_a_handler_is_asked_to_stop():
    """A cancel request is given from the start, or later."""
    with job_context(cancel_requested=True) as context, pytest.raises(Cancelled):
        handler(5)
    assert context.reported == [Progress(1, 5)]
    with job_context() as context:
        assert not context.cancel_requested
        context.reporter.cancelled = True
        with pytest.raises(Cancelled):
            handler(5)


def test_resources_are_handed_on():
    """What a lifespan would have yielded is there."""
    with job_context(resources={"pool": 1}, batch_id="b"):
        assert current_job().resources == {"pool": 1}
        assert current_job().batch_id == "b"


@pytest.mark.parametrize(("done", "total"), [(-1, 1), (1, -1), (1.0, 2), (True, 2), ("1", 2)])
def test_progress_is_whole_numbers(done, total):
    """What is no count is refused, and nothing is recorded."""
    with job_context() as context, pytest.raises(ValueError, match="whole numbers"):
        current_job().report_progress(done, total)
    assert context.reported == []


def test_a_context_belongs_to_its_task():
    """Two coroutines at once each see their own job."""

    async def one(name):
        with job_context(name=name):
            await asyncio.sleep(0)
            return current_job().name

    async def both():
        return await asyncio.gather(one("a"), one("b"))

    assert asyncio.run(both()) == ["a", "b"]
