import asyncio
import gc
import inspect
import logging
import tracemalloc
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import count, islice

import pytest

from dispatcher_core import (
    BatchFault,
    DeliveryError,
    Dispatcher,
    InvalidJob,
    Job,
    MissingSetting,
    NotFound,
    Pong,
    SendFailed,
    WaitTimeout,
)
from dispatcher_core.batch_wire import MAX_BATCH_BODY, MAX_BATCH_JOBS, decode_batch

CREATED = "2024-01-02T03:04:05.678Z"


@pytest.fixture
def accept(answer):
    """Answers the dispatch of a batch as a receiver does."""

    def make(request):
        batch = decode_batch(request.headers["webhook-id"], request.body)
        return answer(202, id=batch.id, ids=batch.ids, state="running")

    return make


@pytest.fixture
def told(answer):
    """Makes the answer to a question for a batch's status."""

    def make(state, **members):
        counts = {"total": 4, "pending": 0, "succeeded": 0, "failed": 0, "cancelled": 0}
        fields = {"id": "batch_1", "created_at": CREATED, "failed_ids": [], **counts}
        return answer(200, **{**fields, "state": state, **members})

    return make


def sent(sender):
    """The batches in the requests that were sent, decoded as a receiver does."""
    return [decode_batch(r.headers["webhook-id"], r.body) for r in sender.requests]


def numbered(number):
    """So many jobs."""
    return [Job("count", {"n": each}, id=f"job_{each}") for each in range(number)]


# batch()


def test_a_batch_is_sent_as_described(dispatcher, sender, accept):
    """Jobs, callbacks, flags, queue and id arrive as they were given, in one request."""
    sender.answers = [accept]
    jobs = [Job("a", {"n": 1}, "own", delay=2, priority=4), Job("b")]
    then, catch, last = Job("t", {"x": 1}), Job("c", queue="alarms"), Job("f", delay=5)
    result = dispatcher.batch(
        jobs, "mail", then=then, catch=catch, finally_=last, allow_failures=True, id="mine"
    )
    assert (result.ok, result.id, result.state, result.duplicate) == (
        True,
        "mine",
        "running",
        False,
    )
    assert result.ids == tuple(job.id for job in jobs)
    [request] = sender.requests
    assert (request.method, request.url) == ("POST", "https://backend.test/base/dispatch/batch")
    [batch] = sent(sender)
    assert (batch.id, batch.should_batch, batch.allow_failures) == ("mine", True, True)
    first, second = batch.jobs
    assert (first.job, first.payload, first.queue) == ("a", {"n": 1}, "own")
    assert (first.delay, first.priority) == (2.0, 4)
    assert (second.job, second.queue, second.delay) == ("b", "mail", 0.0)
    assert [(job.id, job.queue, job.delay) for job in batch.callbacks.values()] == [
        (then.id, "mail", 0.0),
        (catch.id, "alarms", 0.0),
        (last.id, "mail", 5.0),
    ]


def test_defaults_are_filled_in(dispatcher, sender, accept):
    """Jobs are enough: then they are a batch of the default queue with a new id."""
    sender.answers = [accept]
    assert dispatcher.batch([Job("a")]).id != dispatcher.batch([Job("a")]).id
    for batch in sent(sender):
        assert (batch.should_batch, batch.allow_failures, batch.callbacks) == (True, False, {})
        assert batch.jobs[0].queue == "default"


def test_jobs_may_come_from_a_generator(dispatcher, sender, accept):
    """Anything that gives jobs will do."""
    sender.answers = [accept]
    assert dispatcher.batch(Job("a", {"n": n}) for n in range(3)).ok
    assert [job.payload for job in sent(sender)[0].jobs] == [{"n": 0}, {"n": 1}, {"n": 2}]


def test_jobs_can_be_sent_singly(dispatcher, sender, accept):
    """With ``should_batch=False`` the id is that of the sending, and the ids are known."""
    sender.answers = [accept]
    result = dispatcher.batch(numbered(2), "mail", False)
    [batch] = sent(sender)
    assert batch.should_batch is False
    assert (result.id, result.ids) == (batch.id, ("job_0", "job_1"))


def test_a_moment_becomes_a_delay(dispatcher, sender, accept, manual_clock):
    """An aware ``datetime`` is sent as seconds from now."""
    sender.answers = [accept]
    soon = datetime.fromtimestamp(manual_clock.now, UTC) + timedelta(seconds=90)
    dispatcher.batch([Job("a", delay=soon)])
    assert sent(sender)[0].jobs[0].delay == 90.0


def test_an_empty_batch_has_succeeded(dispatcher, sender, answer):
    """A batch without jobs is sent too: its callbacks run."""
    sender.answers = [
        lambda request: answer(202, id=request.headers["webhook-id"], ids=[], state="succeeded")
    ]
    result = dispatcher.batch([], then=Job("t"))
    assert (result.ok, result.state, result.ids) == (True, "succeeded", ())


def test_a_batch_sent_again_is_known(dispatcher, sender, answer):
    """With the failed result's id the backend enqueues once, and tells the ids that it has."""
    known = answer(200, id="mine", ids=["old_0", "old_1"], state="running", duplicate=True)
    sender.answers = [SendFailed("cut off", retryable=False), known]
    first = dispatcher.batch(numbered(2), id="mine")
    second = dispatcher.batch(numbered(2), id=first.id)
    assert (first.failed, first.ids) == (True, ("job_0", "job_1"))
    assert (second.duplicate, second.ids) == (True, ("old_0", "old_1"))
    assert sender.requests[0].body == sender.requests[1].body


JOB = Job("a")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"jobs": None}, "Job objects in a list, not of type NoneType"),
        ({"jobs": Job("a")}, "Job objects in a list, not of type Job"),
        ({"jobs": "greet"}, r"jobs\[0\] is of type str"),
        ({"jobs": [Job("a"), ("a", {})]}, r"jobs\[1\] is of type tuple"),
        ({"jobs": [JOB, Job("b"), JOB]}, "is there twice"),
        ({"jobs": [Job("a", id="x"), Job("b", id="x")]}, "the id 'x' is there twice"),
        ({"then": JOB, "catch": JOB}, "is there twice"),
        ({"jobs": [JOB], "finally_": JOB}, "is there twice"),
        ({"jobs": [Job("a", id="x")], "id": "x"}, "the id 'x' is there twice"),
        ({"then": Job("t", id="x"), "id": "x"}, "the id 'x' is there twice"),
        ({"then": "t"}, "then= must be a Job"),
        ({"catch": {}}, "catch= must be a Job"),
        ({"finally_": len}, "finally_= must be a Job"),
        ({"should_batch": False, "then": JOB}, "need a batch"),
        ({"should_batch": False, "catch": JOB}, "need a batch"),
        ({"should_batch": False, "finally_": JOB}, "need a batch"),
        ({"should_batch": 1}, "should_batch=1 must be True or False"),
        ({"allow_failures": None}, "allow_failures=None must be True or False"),
        ({"queue": "no good"}, "cannot name a queue"),
        ({"queue": None}, "cannot name a queue"),
        ({"id": "a b"}, "cannot be an id"),
        ({"id": ""}, "cannot be an id"),
        ({"jobs": (Job("a") for _ in count())}, r"more than 10000 jobs: .*batches\(\)"),
        ({"jobs": [Job("a", delay=datetime(2999, 1, 1, tzinfo=UTC))]}, "more than a year"),
        ({"jobs": [Job("a", {"x": "x" * MAX_BATCH_BODY})]}, "alone is over 16777216 bytes"),
    ],
)
def test_a_callers_mistake_is_raised(dispatcher, sender, arguments, problem):
    """What can be seen to be wrong before sending raises, and nothing is sent."""
    with pytest.raises(InvalidJob, match=problem):
        dispatcher.batch(**{"jobs": [Job("a")], **arguments})
    assert sender.requests == []


def test_a_batch_may_have_its_whole_limits(dispatcher, sender, accept):
    """10,000 jobs are sent, and 16 MiB to the byte; one byte more says how to go on."""
    sender.answers = [accept]
    assert len(dispatcher.batch(numbered(MAX_BATCH_JOBS)).ids) == MAX_BATCH_JOBS
    text = "x" * (MAX_BATCH_BODY // 4)
    jobs = [Job("a", {"text": text}) for _ in range(3)]
    dispatcher.batch([*jobs, Job("a", {"text": ""})])
    spare = MAX_BATCH_BODY - len(sender.requests[-1].body)
    assert dispatcher.batch([*jobs, Job("a", {"text": "x" * spare})]).ok
    assert len(sender.requests[-1].body) == MAX_BATCH_BODY
    with pytest.raises(InvalidJob, match=r"over 16777216 bytes as JSON: .*batches\(\)"):
        dispatcher.batch([*jobs, Job("a", {"text": "x" * (spare + 1)})])


def test_large_payloads_are_refused_before_they_fill_the_memory(dispatcher):
    """Jobs that share a large payload are not all encoded to see that they are too large."""
    payload = {"text": "x" * 2**20}
    jobs = [Job("a", payload) for _ in range(500)]
    tracemalloc.start()
    try:
        with pytest.raises(InvalidJob, match="over 16777216 bytes"):
            dispatcher.batch(jobs)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * MAX_BATCH_BODY


def test_a_refused_batch_tells_which_jobs(dispatcher, sender, problem, caplog):
    """The error names the jobs in words and as data, is logged once, and the ids are kept."""
    errors = [
        {"at": 1, "code": "unknown-job", "detail": "no job is registered as 'b'"},
        {"at": "then", "code": "invalid-payload", "detail": "missing\n'x'"},
        *({"at": n, "code": "unknown-job", "detail": "no"} for n in range(2, 8)),
    ]
    sender.answers = [problem(422, "invalid-batch", detail="nothing is queued", errors=errors)]
    with caplog.at_level(logging.INFO, "dispatcher"):
        result = dispatcher.batch(numbered(8), id="mine")
    assert (result.failed, result.id, len(result.ids)) == (True, "mine", 8)
    error = result.error
    assert isinstance(error, DeliveryError)
    assert (error.code, error.status) == ("invalid-batch", 422)
    assert error.errors[:2] == (
        BatchFault(1, "unknown-job", "no job is registered as 'b'"),
        BatchFault("then", "invalid-payload", "missing 'x'"),
    )
    assert len(error.errors) == 8
    assert str(error) == (
        "the backend answered 422 invalid-batch: nothing is queued:"
        " jobs[1]: no job is registered as 'b'; then: missing 'x'; jobs[2]: no; and 5 more"
    )
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage() == "batch mine (8 jobs) not dispatched: invalid-batch"


@pytest.mark.parametrize(
    "errors", [None, {}, "no", [None, "no", 7, {}, {"at": None}, {"at": [1], "code": "a"}]]
)
def test_a_list_of_errors_that_is_none_is_ignored(dispatcher, sender, problem, errors):
    """What another server may say there never breaks the result."""
    sender.answers = [problem(422, "invalid-batch", detail="nothing is queued", errors=errors)]
    error = dispatcher.batch(numbered(1)).error
    assert (error.code, error.errors) == ("invalid-batch", ())
    assert str(error) == "the backend answered 422 invalid-batch: nothing is queued"


def test_an_error_without_words_tells_its_code(dispatcher, sender, problem):
    """Where a fault has no detail, its code stands in the message."""
    sender.answers = [problem(422, "invalid-batch", errors=[{"at": 0, "code": "unknown-job"}])]
    assert str(dispatcher.batch(numbered(1)).error).endswith("invalid-batch: jobs[0]: unknown-job")


@pytest.mark.parametrize(
    ("status", "members"),
    [
        (202, {"id": "other", "ids": ["job_0"], "state": "running"}),
        (202, {"id": "mine", "ids": ["job_0"], "state": "dreaming"}),
        (202, {"id": "mine", "ids": ["job_0"]}),
        (202, {"id": "mine", "state": "running"}),
        (202, {"id": "mine", "ids": None, "state": "running"}),
        (202, {"id": "mine", "ids": "job_0", "state": "running"}),
        (202, {"id": "mine", "ids": [7], "state": "running"}),
        (202, {"id": "mine", "ids": ["a b"], "state": "running"}),
        (202, {"id": "mine", "ids": ["other"], "state": "running"}),
        (202, {"id": "mine", "ids": [], "state": "running"}),
        (202, {"id": "mine", "ids": ["job_0", "job_0"], "state": "running"}),
        (202, {"id": "mine", "ids": ["job_0"], "state": "scheduled"}),
        (200, {"id": "mine", "ids": ["job_0"], "state": "queued", "duplicate": True}),
        (201, {"id": "mine", "ids": ["job_0"], "state": "running"}),
        (202, {}),
    ],
)
def test_another_answer_is_a_failure(dispatcher, sender, answer, status, members):
    """Only an answer with our id, a batch's state and the ids of our jobs is a success."""
    sender.answers = [answer(status, **members)]
    result = dispatcher.batch(numbered(1), id="mine")
    assert result.error.code == "bad-answer"
    assert result.ids == ("job_0",)


def test_a_batch_that_is_tried_again_stays_the_same(dispatcher, sender, accept, manual_clock):
    """Each try within a call sends the same bytes and id."""
    sender.answers = [SendFailed("cannot connect"), accept]
    assert dispatcher.batch(numbered(3)).ok
    first, second = sender.requests
    assert first.body == second.body
    assert first.headers["webhook-id"] == second.headers["webhook-id"]


# batches()


def test_a_series_is_cut_into_batches(dispatcher, sender, accept):
    """The jobs are sent in order, so many at a time, each batch with an id of its own."""
    sender.answers = [accept]
    results = list(
        dispatcher.batches(numbered(7), 3, "mail", allow_failures=True, then=Job("t", {"x": 1}))
    )
    assert [len(result.ids) for result in results] == [3, 3, 1]
    assert [each for result in results for each in result.ids] == [f"job_{n}" for n in range(7)]
    assert len({result.id for result in results}) == 3
    batches = sent(sender)
    assert [batch.id for batch in batches] == [result.id for result in results]
    assert all(batch.allow_failures and batch.jobs[0].queue == "mail" for batch in batches)
    assert len({batch.then.id for batch in batches}) == 3
    assert {batch.then.payload["x"] for batch in batches} == {1}


def test_a_series_of_single_jobs(dispatcher, sender, accept):
    """With ``should_batch=False`` the jobs are sent in as many requests, and are no batches."""
    sender.answers = [accept]
    assert all(result.ok for result in dispatcher.batches(numbered(3), 2, should_batch=False))
    assert [batch.should_batch for batch in sent(sender)] == [False, False]


def test_a_series_without_jobs_sends_nothing(dispatcher, sender):
    """There is no empty batch in a series."""
    assert list(dispatcher.batches([])) == []
    assert sender.requests == []


def test_a_series_sent_again_is_the_same(dispatcher, sender, accept):
    """The same jobs with the same ids make the same batches, whose fingerprints agree."""
    sender.answers = [accept]
    then = Job("t")
    first = [result.id for result in dispatcher.batches(numbered(5), 2, then=then)]
    second = [result.id for result in dispatcher.batches(numbered(5), 2, then=then)]
    assert first == second
    fingerprints = [batch.fingerprint for batch in sent(sender)]
    assert fingerprints[:3] == fingerprints[3:]


def test_a_series_goes_on_after_a_failure(dispatcher, sender, accept, problem):
    """A batch that is refused is a failed result in its place; whoever takes it decides."""
    sender.answers = [accept, problem(422, "invalid-batch", errors=[]), accept]
    results = list(dispatcher.batches(numbered(6), 2))
    assert [result.ok for result in results] == [True, False, True]
    assert results[1].ids == ("job_2", "job_3")


def test_a_series_sends_only_what_is_taken(dispatcher, sender, accept):
    """Jobs are taken and batches sent when the next result is asked for, without end."""
    sender.answers = [accept]
    made = []

    def jobs():
        for number in count():
            made.append(number)
            yield Job("a", {"n": number})

    results = dispatcher.batches(jobs(), 10)
    assert (made, sender.requests) == ([], [])
    assert len(list(islice(results, 3))) == 3
    assert (len(made), len(sender.requests)) == (30, 3)


def test_large_jobs_make_smaller_batches(dispatcher, sender, accept):
    """Where ``size`` jobs are too large for one request, fewer go together, none is lost."""
    sender.answers = [accept]
    text = "x" * (MAX_BATCH_BODY // 4)
    jobs = [Job("a", {"text": text if number != 4 else ""}) for number in range(9)]
    results = list(dispatcher.batches(jobs, 8))
    assert [len(result.ids) for result in results] == [3, 4, 2]
    assert [each for result in results for each in result.ids] == [job.id for job in jobs]
    assert all(len(request.body) <= MAX_BATCH_BODY for request in sender.requests)


def test_a_series_needs_little_memory(dispatcher, sender, accept):
    """However long the series is, only one batch of it is in memory."""

    def peak_of(batches):
        def forget(request):
            sender.requests.clear()
            return accept(request)

        sender.answers = [forget]
        jobs = (Job("a", {"text": "x" * 2000}) for _ in range(batches * 50))
        gc.collect()
        tracemalloc.start()
        try:
            assert sum(result.ok for result in dispatcher.batches(jobs, 50)) == batches
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak_of(40) < 1.5 * peak_of(4)


@pytest.mark.parametrize("size", [0, -1, MAX_BATCH_JOBS + 1, 1.5, True, None, "10"])
def test_a_size_is_a_number_of_jobs(dispatcher, size):
    """A size that is none is refused at once."""
    with pytest.raises(InvalidJob, match="size="):
        dispatcher.batches(numbered(1), size)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"jobs": 7}, "Job objects in a list"),
        ({"queue": "no good"}, "cannot name a queue"),
        ({"then": "t"}, "then="),
        ({"should_batch": False, "then": Job("t")}, "need a batch"),
    ],
)
def test_a_series_is_checked_at_once(dispatcher, arguments, problem):
    """What is wrong from the start raises before the first result is asked for."""
    with pytest.raises(InvalidJob, match=problem):
        dispatcher.batches(**{"jobs": [], **arguments})


def test_a_series_needs_settings_at_once():
    """A missing setting raises before the first result is asked for."""
    with pytest.raises(MissingSetting):
        Dispatcher().batches([])


def test_a_wrong_job_ends_a_series(dispatcher, sender, accept):
    """Batches before it are sent, its own is not."""
    sender.answers = [accept]
    results = dispatcher.batches([*numbered(5), "greet"], 2)
    assert [next(results).ok, next(results).ok] == [True, True]
    with pytest.raises(InvalidJob, match=r"jobs\[5\] is of type str"):
        next(results)
    assert len(sender.requests) == 2


def test_an_id_twice_in_one_batch_ends_a_series(dispatcher, sender, accept):
    """The same ``Job`` again within a batch is the caller's mistake."""
    sender.answers = [accept]
    with pytest.raises(InvalidJob, match="is there twice"):
        list(dispatcher.batches([JOB, JOB]))
    assert sender.requests == []


def test_a_job_too_large_ends_a_series(dispatcher, sender, accept):
    """A job that fits into no request at all is the caller's mistake."""
    sender.answers = [accept]
    results = dispatcher.batches([Job("a"), Job("a", {"x": "x" * MAX_BATCH_BODY})])
    assert next(results).ok
    with pytest.raises(InvalidJob, match="alone is over"):
        next(results)


# batch_status(), wait_batch(), cancel_batch()


def test_a_status_is_asked_for(dispatcher, sender, told):
    """``batch_status`` sends a signed GET and decodes the answer."""
    sender.answers = [told("running", pending=1, succeeded=2, failed=1, failed_ids=["x"])]
    status = dispatcher.batch_status("batch_1")
    assert (status.state, status.total, status.pending) == ("running", 4, 1)
    assert (status.succeeded, status.failed, status.failed_ids) == (2, 1, ("x",))
    assert (status.progress.percent, status.finished) == (75, False)
    request = sender.requests[0]
    assert (request.method, request.url) == ("GET", "https://backend.test/base/batches/batch_1")


def test_a_cancel_is_a_delete(dispatcher, sender, told):
    """``cancel_batch`` sends a signed DELETE and returns the status after it."""
    sender.answers = [told("cancelled", cancelled=4)]
    assert dispatcher.cancel_batch("batch_1").state == "cancelled"
    request = sender.requests[0]
    assert (request.method, request.url) == ("DELETE", "https://backend.test/base/batches/batch_1")


METHODS = ["batch_status", "wait_batch", "cancel_batch"]


@pytest.mark.parametrize("method", METHODS)
def test_an_unknown_batch_is_not_found(dispatcher, sender, problem, method):
    """A batch that the backend does not know raises ``NotFound`` with the id."""
    sender.answers = [problem(404, "not-found")]
    with pytest.raises(NotFound, match="no batch by the id batch_1"):
        getattr(dispatcher, method)("batch_1")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("id", ["", "a/b", "é", None])
def test_what_cannot_be_an_id_is_not_sent(dispatcher, sender, method, id):
    """An ill-formed id is the caller's mistake."""
    with pytest.raises(InvalidJob, match="cannot be an id"):
        getattr(dispatcher, method)(id)
    assert sender.requests == []


@pytest.mark.parametrize("method", METHODS)
def test_a_refusal_is_raised(dispatcher, sender, problem, method):
    """What is refused otherwise raises with the problem's code."""
    sender.answers = [problem(401, "bad-signature")]
    with pytest.raises(DeliveryError) as caught:
        getattr(dispatcher, method)("batch_1")
    assert caught.value.code == "bad-signature"


@pytest.mark.parametrize("members", [{"id": "other"}, {"state": "queued"}, {"total": None}])
def test_another_answer_is_a_bad_answer(dispatcher, sender, told, members):
    """An answer about another batch, or about none, is told apart."""
    sender.answers = [told(**{"state": "running", **members})]
    with pytest.raises(DeliveryError) as caught:
        dispatcher.batch_status("batch_1")
    assert caught.value.code == "bad-answer"


def test_a_wait_looks_until_nothing_is_pending(dispatcher, sender, told, manual_clock):
    """Pauses grow as those of ``wait`` do, and the last status is returned."""
    sender.answers = [*[told("running", pending=2)] * 14, told("failed", failed=4)]
    assert dispatcher.wait_batch("batch_1").state == "failed"
    assert manual_clock.slept[0] == 0.02
    assert manual_clock.slept == sorted(manual_clock.slept)
    assert manual_clock.slept[-1] == 1.0


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled"])
def test_a_wait_ends_with_any_final_state(dispatcher, sender, told, manual_clock, state):
    """A batch that has ended already is returned at once."""
    sender.answers = [told(state)]
    assert dispatcher.wait_batch("batch_1", timeout=0).state == state
    assert manual_clock.slept == []


def test_passing_trouble_does_not_end_a_wait(dispatcher, sender, told, problem, caplog):
    """Failed looks are logged once each time they begin, and the wait goes on."""
    trouble = [SendFailed("cut off")] * 6 + [problem(503, "unavailable")] * 6
    sender.answers = [*trouble, told("running", pending=1), told("succeeded")]
    assert dispatcher.wait_batch("batch_1").state == "succeeded"
    [record] = caplog.records
    assert "batch batch_1" in record.getMessage()


@pytest.mark.parametrize(
    ("workers", "message"),
    [(0, "still running, 25 % done, no worker alive"), (2, "still running, 25 % done")],
)
def test_a_wait_in_vain_says_why(dispatcher, sender, told, answer, workers, message):
    """A wait that times out carries the last status, and tells how far it is."""
    status, pong = told("running", pending=3), answer(200, versions=[1], workers=workers)
    sender.answers = [lambda request: pong if request.url.endswith("/ping") else status]
    with pytest.raises(WaitTimeout) as caught:
        dispatcher.wait_batch("batch_1", timeout=3.0)
    assert caught.value.status.pending == 3
    assert str(caught.value) == f"the batch batch_1 did not end within 3 s: {message}"


@pytest.mark.parametrize("timeout", [-1, float("nan"), "1"])
def test_a_wait_takes_seconds(dispatcher, timeout):
    """A timeout that is none is refused."""
    with pytest.raises(InvalidJob, match="timeout="):
        dispatcher.wait_batch("batch_1", timeout=timeout)


# Coroutines


def test_everything_is_a_coroutine_too(dispatcher, sender, accept, told):
    """Each method has a coroutine that returns the same."""

    async def use():
        sender.answers = [accept]
        result = await dispatcher.abatch(numbered(2), "mail", then=Job("t"), id="mine")
        series = [each async for each in dispatcher.abatches(numbered(5), 2, "mail")]
        sender.answers = [told("running", pending=1), told("succeeded")]
        ended = await dispatcher.await_batch("batch_1", timeout=5)
        status = await dispatcher.abatch_status("batch_1")
        sender.answers = [told("cancelled")]
        return result, series, ended, status, await dispatcher.acancel_batch("batch_1")

    result, series, ended, status, cancelled = asyncio.run(use())
    assert (result.id, result.ids) == ("mine", ("job_0", "job_1"))
    assert [len(each.ids) for each in series] == [2, 2, 1]
    assert (ended.state, status.state, cancelled.state) == ("succeeded", "succeeded", "cancelled")
    first = sender.requests[0]
    [callback] = decode_batch("mine", first.body).callbacks.values()
    assert (callback.job, callback.queue) == ("t", "mail")


@pytest.mark.parametrize("name", ["batch", "batch_status", "wait_batch", "cancel_batch"])
def test_coroutines_take_the_same_arguments(name):
    """A coroutine has the parameters, and the name, of the method it stands for."""
    twin = {"wait_batch": "await_batch"}.get(name, f"a{name}")
    coroutine = getattr(Dispatcher, twin)
    assert inspect.iscoroutinefunction(coroutine)
    assert coroutine.__qualname__ == f"Dispatcher.{twin}"
    assert inspect.signature(coroutine) == inspect.signature(getattr(Dispatcher, name))


def test_a_series_is_an_asynchronous_generator_too():
    """``abatches`` has the parameters of ``batches``, and is gone through with async for."""
    assert inspect.isasyncgenfunction(Dispatcher.abatches)
    plain = inspect.signature(Dispatcher.batches)
    twin = inspect.signature(Dispatcher.abatches)
    assert twin.parameters == plain.parameters
    assert twin.return_annotation.__origin__ is AsyncIterator


def test_a_wrong_job_ends_an_asynchronous_series(dispatcher, sender, accept):
    """Mistakes are raised where the results are awaited."""

    async def use():
        sender.answers = [accept]
        results = dispatcher.abatches([*numbered(2), 7], 2)
        assert (await anext(results)).ok
        with pytest.raises(InvalidJob, match=r"jobs\[2\]"):
            await anext(results)

    asyncio.run(use())


def test_a_coroutine_calls_the_method_of_the_object_at_hand(sender):
    """A subclass that overrides a method has overridden its coroutine."""

    class Quiet(Dispatcher):
        def ping(self):
            return Pong(reachable=True, secret_accepted=True, workers=7)

    assert asyncio.run(Quiet().aping()).workers == 7
