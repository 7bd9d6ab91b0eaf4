import asyncio
import json
import subprocess
import sys
import textwrap
from dataclasses import replace
from datetime import UTC, datetime
from wsgiref.validate import validator

import pytest

from dispatcher_core import (
    BatchClosed,
    BatchStatus,
    Cancelled,
    Config,
    Dispatcher,
    InvalidJob,
    Job,
    JobError,
    NoCurrentJob,
    NotFound,
    Progress,
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
    job_context,
)
from dispatcher_core.wire import decode_dispatch

SECRET = "A1b2" * 16


@job("greet")
def greet(name: str) -> None:
    """A job."""


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


def test_a_fake_takes_what_a_dispatcher_takes(monkeypatch):
    """A program that makes its own dispatcher may be given the class of the fake."""
    monkeypatch.setenv("DISPATCHER_BACKEND_URL", "https://backend.test")
    made = [
        FakeDispatcher(Config(url="https://backend.test"), sender=WSGISender(echo)),
        FakeDispatcher.from_env(),
        FakeDispatcher.from_env(backend="billing"),
    ]
    for fake in made:
        assert fake.dispatch("greet").ok
        fake.assert_dispatched("greet", times=1)


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


def test_each_wait_for_a_fake_has_its_own_time():
    """However long one waits, and others did before, a timeout ends as a timeout."""
    fake = FakeDispatcher()
    fake.dispatch("greet", id="mine")
    fake.batch([Job("greet")], id="all")
    for timeout in (86400, 0.5, float("inf"), 5):
        with pytest.raises(WaitTimeout, match="still queued"):
            fake.wait("mine", timeout=timeout)
    with pytest.raises(WaitTimeout, match="still running"):
        fake.wait_batch("all", timeout=86400)
    with pytest.raises(AssertionError, match="set_status"):
        fake.wait("mine")
    fake.set_status("mine", state="succeeded")
    assert fake.wait("mine").state == "succeeded"


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


# The fake dispatcher and batches


def test_a_fake_accepts_batches():
    """A batch runs, its jobs wait, and its callbacks wait for it."""
    fake = FakeDispatcher()
    jobs, then = [Job("a"), Job("b", delay=60)], Job("t")
    result = fake.batch(jobs, "mail", then=then)
    assert (result.ok, result.state, result.ids) == (True, "running", (jobs[0].id, jobs[1].id))
    status = fake.batch_status(result.id)
    assert (status.state, status.total, status.pending) == ("running", 2, 2)
    assert status.then_id == then.id
    states = [fake.status(each).state for each in (*result.ids, then.id)]
    assert states == ["queued", "scheduled", "scheduled"]
    assert fake.batch([], then=Job("t")).state == "succeeded"


def test_a_fake_answers_batches_as_a_backend():
    """The same batch again is a duplicate with the ids that are kept; another is refused."""
    fake = FakeDispatcher()
    first = fake.batch([Job("a", {"n": 1})], id="mine")
    again = fake.batch([Job("a", {"n": 1})], id="mine")
    assert (again.duplicate, again.ids, again.state) == (True, first.ids, "running")
    assert fake.batch([Job("a", {"n": 2})], id="mine").error.code == "id-reused"
    assert fake.dispatch("a", id="mine").error.code == "id-reused"
    assert fake.batch([Job("b", id=first.ids[0])]).error.code == "id-reused"
    assert len(fake.batched) == 1
    with pytest.raises(NotFound):
        fake.batch_status("other")


def test_a_fake_keeps_jobs_singly():
    """With ``should_batch=False`` there are jobs and no batch."""
    fake = FakeDispatcher()
    result = fake.batch([Job("a")], should_batch=False)
    again = fake.batch([Job("a")], should_batch=False, id=result.id)
    assert (result.state, again.duplicate, again.ids) == ("running", True, result.ids)
    assert fake.batch([], should_batch=False).state == "succeeded"
    assert fake.status(result.ids[0]).batch_id is None
    with pytest.raises(NotFound):
        fake.batch_status(result.id)


def test_single_jobs_and_batches_are_told_apart():
    """What was dispatched is not batched, and the other way round."""
    fake = FakeDispatcher()
    fake.dispatch("single")
    fake.batch([Job("a")])
    assert [job.job for job in fake.dispatched] == ["single"]
    assert [[job.job for job in batch.jobs] for batch in fake.batched] == [["a"]]
    fake.assert_dispatched("a", times=0)
    fake.assert_batched(["single"], times=0)


def test_assert_batched_finds_batches():
    """Batches are found by their jobs, their callbacks, and how many there are."""
    fake = FakeDispatcher()
    fake.batch([Job(greet, {"name": "Ada"}), Job("b", queue="own")], then=Job("t", {"x": (1, 2)}))
    fake.batch([Job("b")], catch=Job("c"), finally_=Job(greet))
    assert len(fake.assert_batched()) == 2
    assert len(fake.assert_batched(times=2)) == 2
    [batch] = fake.assert_batched(["greet", "b"], times=1)
    assert batch.jobs[0].payload == {"name": "Ada"}
    fake.assert_batched([greet, "b"], then="t", times=1)
    fake.assert_batched([Job("greet", {"name": "Ada"}), Job("b", queue="own")])
    fake.assert_batched(then=Job("t", {"x": (1, 2)}), times=1)
    fake.assert_batched(catch="c", finally_=greet, times=1)
    fake.assert_batched(["b", "greet"], times=0)


@pytest.mark.parametrize(
    "arguments",
    [
        {"jobs": []},
        {"jobs": ["greet"]},
        {"jobs": ["b", "greet"]},
        {"jobs": ["greet", "b", "b"]},
        {"jobs": [Job("greet", {"name": "Bob"}), "b"]},
        {"jobs": [Job("greet"), "b"]},
        {"jobs": ["greet", Job("b", queue="other")]},
        {"then": "other"},
        {"then": Job("t", {"x": 1})},
        {"catch": "t"},
        {"finally_": "t"},
        {"times": 0},
        {"times": 2},
    ],
)
def test_assert_batched_fails_with_what_there_is(arguments):
    """A failed assertion lists the batches that were dispatched."""
    fake = FakeDispatcher()
    fake.batch([Job("greet", {"name": "Ada"}), Job("b")], then=Job("t"))
    with pytest.raises(AssertionError, match=r"batched: \['greet', 'b'\] then 't'"):
        fake.assert_batched(**arguments)


def test_a_long_batch_is_listed_in_short():
    """Of a failed assertion one can see where to look."""
    fake = FakeDispatcher()
    fake.batch([Job("a") for _ in range(200)])
    with pytest.raises(AssertionError, match=r"'a' and 190 more\]$"):
        fake.assert_batched(times=2)


def test_a_batch_is_something_dispatched():
    """``assert_nothing_dispatched`` sees batches too."""
    fake = FakeDispatcher()
    fake.batch([Job("a")])
    with pytest.raises(AssertionError, match=r"expected no job, .*\['a'\]"):
        fake.assert_nothing_dispatched()


def test_a_batch_fails_on_demand():
    """The next batch fails as it would in production; nothing of it is kept."""
    fake = FakeDispatcher()
    fake.fail_next("invalid-batch")
    result = fake.batch([Job("a")])
    assert (result.error.code, result.error.errors[0].at) == ("invalid-batch", 0)
    fake.assert_nothing_dispatched()
    assert fake.batch([Job("a")], id=result.id).ok


def test_what_becomes_of_the_jobs_counts_in_the_batch():
    """A batch follows from its jobs' states, its callbacks from the batch."""
    fake = FakeDispatcher()
    then, last = Job("t"), Job("f", delay=60)
    result = fake.batch([Job("a"), Job("b")], then=then, finally_=last)
    fake.set_status(result.ids[0], state="succeeded")
    assert fake.batch_status(result.id).progress == Progress(1, 2)
    with pytest.raises(WaitTimeout, match="still running, 50 % done"):
        fake.wait_batch(result.id, timeout=5)
    fake.set_status(result.ids[1], state="succeeded")
    status = fake.wait_batch(result.id)
    assert (status.state, status.succeeded, status.pending) == ("succeeded", 2, 0)
    assert status.finished_at is not None
    assert [fake.status(each.id).state for each in (then, last)] == ["queued", "scheduled"]


def test_a_batch_status_can_be_set():
    """It is what later questions are answered with, also for batches of others."""
    fake = FakeDispatcher()
    result = fake.batch([Job("a"), Job("b"), Job("c")])
    fake.set_batch_status(result.id, pending=2, failed=1, failed_ids=("x",))
    assert fake.batch_status(result.id).progress.done == 1
    status = fake.set_batch_status(result.id, state="succeeded")
    assert (status.state, status.pending, status.succeeded, status.failed) == (
        "succeeded",
        0,
        2,
        1,
    )
    assert status == replace(fake.batch_status(result.id), finished_at=status.finished_at)
    other = fake.set_batch_status("other", state="cancelled", total=9, cancelled=9)
    assert (other.total, other.cancelled, fake.wait_batch("other").state) == (9, 9, "cancelled")


@pytest.mark.parametrize(
    ("fields", "error"), [({"state": "queued"}, ValueError), ({"x": 1}, TypeError)]
)
def test_a_wrong_batch_status_is_refused(fields, error):
    """A state or field that there is none of is the test's mistake."""
    with pytest.raises(error):
        FakeDispatcher().set_batch_status("mine", **fields)


def test_a_fake_cancels_batches():
    """What waits is cancelled, what runs is asked to stop."""
    fake = FakeDispatcher()
    result = fake.batch([Job("a"), Job("b")])
    fake.set_status(result.ids[0], state="running")
    status = fake.cancel_batch(result.id)
    assert (status.state, status.pending, status.cancelled) == ("running", 1, 1)
    assert fake.status(result.ids[0]).cancel_requested
    fake.set_status(result.ids[0], state="succeeded")
    assert fake.batch_status(result.id).state == "cancelled"


def test_a_fake_takes_a_series():
    """A series of batches is recorded as such, from a coroutine too."""
    fake = FakeDispatcher()

    async def use():
        return [result async for result in fake.abatches([Job("a") for _ in range(5)], 2)]

    assert [len(result.ids) for result in fake.batches([Job("a") for _ in range(3)], 2)] == [2, 1]
    assert [len(result.ids) for result in asyncio.run(use())] == [2, 2, 1]
    assert len(fake.batched) == 5


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


def split(parts):
    """A handler that adds to its batch."""
    current = current_job()
    assert current.batch().state == "running"
    return current.add_to_batch(Job("part", {"n": number}) for number in range(parts))


def test_a_handler_adds_to_its_batch():
    """What it adds is recorded with the ids that it gets, and the batch grows."""
    with job_context(id="mine", batch_id="b") as context:
        ids = split(2) + split(1)
        assert [job.payload["n"] for job in context.added] == [0, 1, 0]
        assert [job.id for job in context.added] == list(ids)
        assert (current_job().batch().id, current_job().batch().pending) == ("b", 4)
    with job_context(id="mine", batch_id="b"):
        assert split(3) == ids
    with job_context(id="other", batch_id="b"):
        assert not {*split(3)} & {*ids}


def test_a_handler_sees_its_batch():
    """A batch that is given is the one that the job belongs to."""
    batch = BatchStatus(
        id="b",
        state="failed",
        total=2,
        pending=0,
        succeeded=1,
        failed=1,
        cancelled=0,
        created_at=datetime.now(UTC),
    )
    with job_context(batch=batch) as context:
        assert (current_job().batch_id, current_job().batch()) == ("b", batch)
        with pytest.raises(BatchClosed):
            current_job().add_to_batch([Job("part")])
    assert context.added == []


def test_a_job_without_a_batch_adds_nothing():
    """There is no batch to be told or added to."""
    with job_context() as context:
        assert current_job().batch() is None
        with pytest.raises(BatchClosed):
            current_job().add_to_batch([Job("part")])
    assert context.added == []


def test_only_jobs_are_added_to_a_batch():
    """What is no ``Job`` is the handler's mistake, and nothing is added."""
    with job_context(batch_id="b") as context:
        for wrong in ([Job("part"), "part"], "part", 7):
            with pytest.raises(InvalidJob, match="Job"):
                current_job().add_to_batch(wrong)
    assert context.added == []


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
