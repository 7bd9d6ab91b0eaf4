"""How a run ends, and what is written of it."""

import pytest

from dispatcher_core import JobError
from dispatcher_local_queue.database import now_ms
from dispatcher_local_queue.endings import Ending, Owned, write_ending

ERROR = JobError("exception", "ValueError", "no luck")


@pytest.fixture
def end(claimed, database):
    """Ends the run of a fresh job, and tells what was written and the row."""

    def end(ending: Ending, *, cancelled: bool = False, now: int | None = None):
        claim = claimed()
        with database.write() as connection:
            if cancelled:
                connection.execute("UPDATE job SET cancel_requested = 1")
            owned = Owned(claim.seq, claim.token, None)
            written = write_ending(connection, owned, ending, now or now_ms())
        assert written.woken == set()
        return written.ending, claim

    return end


def test_success(end, jobs) -> None:
    """A job that succeeded has its result, and nothing of the worker."""
    written, claim = end(Ending(state="succeeded", result='{"sum":3}'), now=5_000_000_000_000)
    assert written.state == "succeeded"
    row = jobs.row(claim.id)
    assert (row["state"], row["result"], row["finished_at"]) == (
        "succeeded",
        '{"sum":3}',
        5_000_000_000_000,
    )
    assert (row["attempt"], row["kills"]) == (1, 0)
    assert [row[name] for name in ("worker", "token", "doom", "doom_delay", "error_code")] == [
        None
    ] * 5


def test_failure(end, jobs) -> None:
    """A job that failed says why."""
    _, claim = end(Ending.failed(ERROR))
    status = jobs.status(claim.id)
    assert (status.state, status.error, status.result) == ("failed", ERROR, None)
    assert status.finished_at is not None


def test_another_try(end, jobs) -> None:
    """A try that failed is over; the job waits for the next and says what went wrong."""
    _, claim = end(Ending.retried(ERROR, 1500), now=5_000_000_000_000)
    status = jobs.status(claim.id)
    assert (status.state, status.attempt, status.error) == ("scheduled", 1, ERROR)
    assert status.finished_at is None
    assert jobs.row(claim.id)["available_at"] == 5_000_000_001_500


def test_the_next_success_forgets_the_error(end, jobs, claims) -> None:
    """A job that succeeds in the end has no error left."""
    _, claim = end(Ending.retried(ERROR, 0), now=1)
    again = claims.claim(["default"])
    assert jobs.status(claim.id).error == ERROR
    claims.end_and_claim(again, Ending(state="succeeded"), [])
    assert jobs.status(claim.id).error is None


@pytest.mark.parametrize("killed", [True, False])
def test_put_back(end, jobs, killed) -> None:
    """A run that ended through no fault of the job uses up no try; a kill is counted apart."""
    _, claim = end(Ending.put_back(killed=killed))
    row = jobs.row(claim.id)
    assert (row["state"], row["attempt"], row["kills"]) == ("queued", 0, int(killed))
    assert row["available_at"] == claim.available_at


def test_an_unknown_name(end, jobs) -> None:
    """A name that nobody knows yet waits, uncounted, and its first time is kept."""
    ending = Ending(state="scheduled", delay_ms=30_000, counted=False, unknown_since=77)
    _, claim = end(ending, now=5_000_000_000_000)
    row = jobs.row(claim.id)
    assert (row["state"], row["attempt"], row["unknown_since"]) == ("scheduled", 0, 77)
    assert row["available_at"] == 5_000_000_030_000


@pytest.mark.parametrize(
    ("ending", "state"),
    [
        (Ending.retried(ERROR, 1000), "failed"),
        (Ending.put_back(killed=True), "cancelled"),
        (Ending.put_back(killed=False), "cancelled"),
        (Ending(state="scheduled", delay_ms=30_000, counted=False, unknown_since=1), "cancelled"),
        (Ending(state="succeeded", result="1"), "succeeded"),
        (Ending.failed(ERROR), "failed"),
        (Ending(state="cancelled"), "cancelled"),
    ],
    ids=["retried", "killed", "put-back", "unknown", "succeeded", "failed", "cancelled"],
)
def test_a_job_that_was_asked_to_stop(end, jobs, ending, state) -> None:
    """After a request to cancel nothing starts again; what ended by itself ends as it did."""
    written, claim = end(ending, cancelled=True)
    status = jobs.status(claim.id)
    assert (written.state, status.state) == (state, state)
    assert status.finished_at is not None
    assert status.error == ending.error


def test_a_run_that_lost_its_job(claimed, database, jobs) -> None:
    """Another token changes nothing."""
    claim = claimed()
    before = jobs.row(claim.id)
    with database.write() as connection:
        ending = Ending.failed(ERROR)
        assert write_ending(connection, Owned(claim.seq, claim.token + 1, None), ending, 1) is None
    assert jobs.row(claim.id) == before
