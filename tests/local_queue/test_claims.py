"""The worker's side of the queue: which job comes next, and who may write."""

from types import SimpleNamespace

import pytest

from dispatcher_core import JobError, Progress
from dispatcher_local_queue.claims import ClaimLost
from dispatcher_local_queue.database import now_ms
from dispatcher_local_queue.endings import Ending

DONE = Ending(state="succeeded")


@pytest.fixture
def drain(claims):
    """Claims and ends until nothing is left, and tells the ids in order."""

    def drain(*queues: str) -> list[str]:
        ids = []
        claim = claims.claim(queues)
        while claim is not None:
            ids.append(claim.id)
            _, claim = claims.end_and_claim(claim, DONE, queues)
        return ids

    return drain


@pytest.fixture
def many_jobs(database):
    """A table with thousands of jobs in every state, and statistics of it."""
    states = ["queued"] * 40 + ["scheduled"] * 40 + ["running"] + ["succeeded"] * 19
    far = now_ms() + 10**9
    rows = [
        (f"job-{number}", f"queue-{number % 7}", number % 5, states[number % 100], far + number)
        for number in range(5000)
    ]
    with database.write() as connection:
        connection.executemany(
            "INSERT INTO job (id, queue, priority, state, available_at, name,"
            " created_at, payload, worker) VALUES (?, ?, ?, ?, ?, 'add', 0, '{}', 'w')",
            rows,
        )
    with database.write() as connection:
        connection.execute("ANALYZE")


@pytest.fixture
def plans(claims, registry, queue, database):
    """Lets one act, and tells how SQLite goes about each of the statements it used."""

    def plans(act) -> list[str]:
        statements: list[str] = []
        for each in (database, queue._database):
            with each.read() as connection:
                connection.set_trace_callback(statements.append)
        act(SimpleNamespace(claims=claims, registry=registry, queue=queue))
        with database.read() as connection:
            connection.set_trace_callback(None)
            acts = [text for text in statements if text.split()[0] not in ("BEGIN", "COMMIT")]
            rows = [
                row
                for text in acts
                if text.split()[0] in ("SELECT", "UPDATE", "INSERT", "DELETE", "WITH")
                for row in connection.execute(f"EXPLAIN QUERY PLAN {text}").fetchall()
            ]
        return [row[-1] for row in rows]

    return plans


def test_what_a_claim_tells(jobs, claims) -> None:
    """A claim has what it takes to run the job; the job runs from now on."""
    id = jobs.put("add", {"a": 1}, queue="sums")
    claim = claims.claim(["sums"])
    assert (claim.id, claim.name, claim.queue) == (id, "add", "sums")
    assert (claim.attempt, claim.kills, claim.batch_id, claim.unknown_since) == (1, 0, None, None)
    assert claim.payload == '{"a":1}'
    assert claim.available_at <= claim.started_at <= now_ms()
    status = jobs.status(id)
    assert (status.state, status.attempt) == ("running", 1)
    assert jobs.row(id)["worker"] == "ada"


def test_an_empty_queue(claims) -> None:
    """Where nothing waits there is nothing to claim."""
    assert claims.claim(["default"]) is None
    assert claims.claim([]) is None
    assert claims.work_waits(["default"]) is False
    assert (claims.next_due(), claims.queues()) == (None, [])


def test_priority_comes_first_then_arrival(jobs, drain) -> None:
    """Higher priorities start first; among equals who came first."""
    order = [jobs.put(priority=priority) for priority in (0, 5, -100, 0, 100, 5)]
    assert drain("default") == [order[n] for n in (4, 1, 5, 0, 3, 2)]


def test_queues_come_in_the_order_given(jobs, drain) -> None:
    """The first queue is emptied before the second, whatever the priorities there."""
    slow = jobs.put(queue="slow", priority=100)
    fast = [jobs.put(queue="fast", priority=-100) for _ in range(2)]
    other = jobs.put(queue="other")
    assert drain("fast", "slow") == [*fast, slow]
    assert jobs.status(other).state == "queued"


def test_a_delayed_job_is_not_claimed_early(jobs, claims) -> None:
    """A scheduled job is left alone until its time, and the queue knows when that is."""
    jobs.put(delay=3600)
    id = jobs.put(delay=60)
    assert claims.work_waits(["default"]) is False
    assert claims.claim(["default"]) is None
    assert claims.next_due() == jobs.row(id)["available_at"]


def test_a_delayed_job_is_claimed_in_time(jobs, claims, wait_until) -> None:
    """A scheduled job can be claimed once it is due, and not a millisecond earlier."""
    id = jobs.put(delay=0.05)
    claim = wait_until(lambda: claims.claim(["default"]))
    assert claim.id == id
    assert claim.started_at >= jobs.row(id)["available_at"]


def test_a_due_job_keeps_its_place(jobs, drain) -> None:
    """A job that was delayed goes where its arrival puts it, before those that came later."""
    first = jobs.put(delay=60)
    second = jobs.put()
    urgent = jobs.put(delay=60, priority=1)
    for id in (first, urgent):
        jobs.change(id, available_at=1)
    assert drain("default") == [urgent, first, second]


def test_due_jobs_of_other_queues_are_promoted(jobs, claims, enter) -> None:
    """Whoever claims moves all that is due, so that the workers of other queues find it."""
    id = jobs.put(queue="elsewhere", delay=60)
    jobs.change(id, available_at=1)
    assert claims.work_waits(["default"]) is True
    assert claims.claim(["default"]) is None
    assert claims.work_waits(["default"]) is False
    assert jobs.status(id).state == "queued"
    assert enter().claim(["elsewhere"]).id == id


def test_many_due_jobs(jobs, database, drain) -> None:
    """More due jobs than are moved at once all get their turn."""
    ids = [jobs.put(delay=60) for _ in range(450)]
    with database.write() as connection:
        connection.execute("UPDATE job SET available_at = 1")
    assert drain("default") == ids


def test_a_job_is_claimed_once(jobs, claims, enter) -> None:
    """Two workers never get the same job."""
    ids = {jobs.put() for _ in range(2)}
    first, second = claims.claim(["default"]), enter().claim(["default"])
    assert {first.id, second.id} == ids
    assert first.token != second.token
    assert claims.claim(["default"]) is None


def test_end_and_claim(jobs, claimed, claims) -> None:
    """Ending one job claims the next; the written ending is told."""
    claim, waiting = claimed(), jobs.put()
    written, following = claims.end_and_claim(
        claim, Ending(state="succeeded", result="[3]"), ["default"]
    )
    assert written.state == "succeeded"
    assert following.id == waiting
    assert jobs.status(claim.id).result == [3]
    assert claims.end_and_claim(following, DONE, ["default"]) == (DONE, None)


def test_end_and_claim_is_one_transaction(jobs, claimed, claims, database) -> None:
    """When the next job cannot be claimed, the first has not ended either."""
    claim = claimed()
    jobs.put()
    with database.write() as connection:
        connection.execute(
            "CREATE TRIGGER no BEFORE UPDATE ON job WHEN new.state = 'running'"
            " BEGIN SELECT raise(ABORT, 'no'); END"
        )
    with pytest.raises(Exception, match="no"):
        claims.end_and_claim(claim, DONE, ["default"])
    assert jobs.status(claim.id).state == "running"
    with database.write() as connection:
        connection.execute("DROP TRIGGER no")
    assert claims.end_and_claim(claim, DONE, ["default"])[0] == DONE


def test_who_lost_a_job_can_write_nothing(jobs, claimed, claims, registry, enter) -> None:
    """Once the job went to another worker, the first ends nothing and claims nothing."""
    claim = claimed()
    registry.recover("ada")
    other = enter("bob")
    second = other.claim(["default"])
    waiting = jobs.put()
    before = jobs.row(claim.id)
    with pytest.raises(ClaimLost):
        claims.end_and_claim(claim, Ending(state="succeeded", result="1"), ["default"])
    claims.report_progress(claim, 1, 2)
    assert jobs.row(claim.id) == before
    assert jobs.status(waiting).state == "queued"
    other.end_and_claim(second, Ending(state="succeeded", result="2"), [])
    assert jobs.status(claim.id).result == 2
    with pytest.raises(ClaimLost):
        claims.end_and_claim(claim, DONE, ["default"])


def test_a_job_ends_once(claimed, claims) -> None:
    """A second end of the same run is refused."""
    claim = claimed()
    claims.end_and_claim(claim, DONE, [])
    with pytest.raises(ClaimLost):
        claims.end_and_claim(claim, DONE, [])


def test_progress(jobs, claimed, claims) -> None:
    """Progress is seen at once, and a new try starts without any."""
    claim = claimed()
    claims.report_progress(claim, 3, 20)
    assert jobs.status(claim.id).progress == Progress(3, 20)
    error = JobError("exception", "E", "no")
    again = claims.end_and_claim(claim, Ending.retried(error, 0), ["default"])[1]
    assert (again.id, again.attempt) == (claim.id, 2)
    assert jobs.status(claim.id).progress is None


def test_queues_in_which_jobs_wait(jobs, claims) -> None:
    """Each queue with a waiting job is listed once, by name."""
    for queue in ("b", "a", "b", "c.d"):
        jobs.put(queue=queue)
    jobs.put(queue="later", delay=60)
    assert claims.queues() == ["a", "b", "c.d"]


@pytest.mark.parametrize(
    ("act", "index"),
    [
        (lambda it: it.claims.claim(["queue-1", "queue-2"]), "job_ready (queue=?)"),
        (lambda it: it.claims.claim([]), "job_due (available_at<?)"),
        (lambda it: it.claims.work_waits(["queue-9"]), "job_ready (queue=?)"),
        (lambda it: it.claims.next_due(), "job_due"),
        (lambda it: it.claims.queues(), "job_ready (queue>?)"),
        (lambda it: it.registry.recover("w"), "job_running (worker=?)"),
        (lambda it: it.registry.running_jobs("boss"), "job_running (worker=?)"),
        (lambda it: it.registry.doom("w", 1, 2, None), "job_running (worker=?)"),
        (lambda it: it.queue.find_job("job-7"), "sqlite_autoindex_job_1 (id=?)"),
        (lambda it: it.queue.cancel_job("job-7"), "sqlite_autoindex_job_1 (id=?)"),
    ],
    ids=[
        *("claim", "promote", "wait", "due", "queues"),
        *("recover", "stop", "doom", "find", "cancel"),
    ],
)
def test_statements_use_their_index(act, index, plans, many_jobs) -> None:
    """No statement goes through the table however full it is, and none has to sort."""
    found = plans(act)
    assert any(index in line for line in found), found
    scans = [line for line in found if line.startswith("SCAN job") and " INDEX " not in line]
    assert [*scans, *(line for line in found if "B-TREE" in line)] == []
