import threading
import time

import pytest

from dispatcher_core.errors import QueueUnavailable
from dispatcher_local_queue import maintenance
from dispatcher_local_queue.database import now_ms
from dispatcher_local_queue.leading import leading
from dispatcher_local_queue.maintenance import Pruner, Sweep, free_step, repeated

HOUR = 3_600_000


def far() -> int:
    """A time after which nothing finishes."""
    return 2**62


@pytest.fixture
def fill(database):
    """Puts many jobs of one state into the table, the first of which finished first."""

    def fill(number, state="succeeded", finished_at=0, payload="{}", created_at=0):
        with database.write() as connection:
            connection.executemany(
                "INSERT INTO job (id, name, queue, priority, state, created_at,"
                " payload, finished_at) VALUES (?, 'add', 'default', 0, ?, ?, ?, ?)",
                (
                    (
                        f"{state}-{each}",
                        state,
                        created_at,
                        payload,
                        finished_at + each,
                    )
                    for each in range(number)
                ),
            )

    return fill


@pytest.fixture
def count(database):
    """How many jobs the table has, by state."""

    def count():
        with database.read() as connection:
            return dict(connection.execute("SELECT state, count(*) FROM job GROUP BY state"))

    return count


@pytest.fixture
def pages(database):
    """How many pages the file has, and how many of them are free."""

    def pages():
        with database.read() as connection:
            return tuple(
                connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("page_count", "freelist_count")
            )

    return pages


def work_off(pruner: Pruner) -> None:
    """Do every step of a round, however long each is to wait."""
    while pruner.due - time.monotonic() < 1:
        pruner.due = 0.0
        pruner.do_what_is_due()


def test_only_what_succeeded_or_was_cancelled_is_pruned(database, jobs, fill, count):
    """Jobs that failed, run or wait stay, whatever their times say."""
    for state in ("succeeded", "failed", "cancelled", "queued", "scheduled", "running"):
        fill(1, state)
    assert Sweep(database, far).step() == (2, False)
    assert count() == dict.fromkeys(("failed", "queued", "scheduled", "running"), 1)


def test_a_step_removes_the_oldest(database, fill):
    """A few at a time, and none that is too young."""
    fill(3, "succeeded", 1000)
    fill(3, "cancelled", 2000)
    assert Sweep(database, lambda: 2000).step() == (4, False)
    with database.read() as connection:
        left = connection.execute("SELECT id FROM job ORDER BY seq").fetchall()
    assert left == [("cancelled-1",), ("cancelled-2",)]


def test_a_step_is_short(database, fill, count):
    """However much there is to remove: a step says that more is left, and others do it."""
    fill(1200)
    sweep = Sweep(database, far)
    first = sweep.step()
    assert 0 < first.removed <= 500
    assert first.more
    assert repeated(sweep.step) == 1200 - first.removed
    assert count() == {}


def test_a_step_that_takes_long_ends(database, fill, monkeypatch):
    """When its time is over, as where payloads are big; but it always gets somewhere."""
    monkeypatch.setattr(maintenance, "_LONGEST_STEP", 0.0)
    fill(600, payload='{"text": "' + "x" * 3000 + '"}')
    sweep = Sweep(database, far)
    assert sweep.step() == (1, True)
    assert repeated(sweep.step) == 599
    assert free_step(database) == (1, True)


def test_a_sweep_passes_what_stays(database, fill, count):
    """However many jobs stay, each step goes on behind the last, and comes to the old ones."""
    fill(1200, "failed")
    fill(3, "succeeded")
    assert repeated(Sweep(database, far).step) == 3
    assert count() == {"failed": 1200}


def test_a_step_past_what_stays_is_short(database, fill, monkeypatch):
    """A step that finds nothing old ends when its time is over, and the next one goes on."""
    monkeypatch.setattr(maintenance, "_LONGEST_STEP", 0.0)
    fill(1200, "failed")
    fill(1, "succeeded")
    sweep = Sweep(database, far)
    assert [sweep.step() for _ in range(3)] == [(0, True), (0, True), (1, False)]


def test_a_sweep_ends_where_no_job_can_be_old(database, fill):
    """Jobs that came later than an old one ended are not walked through, however many come."""
    fill(3, "succeeded")
    fill(501, "failed", created_at=now_ms())
    fill(1000, "cancelled", finished_at=now_ms(), created_at=now_ms())
    sweep = Sweep(database, lambda: now_ms() - HOUR)
    assert [sweep.step() for _ in range(2)] == [(3, True), (0, False)]


def test_a_clock_that_was_wrong_rules_one_step(database, fill, monkeypatch, count):
    """What ends after the clock is right again stays, though the sweep began before."""
    monkeypatch.setattr(maintenance, "_LONGEST_STEP", 0.0)
    fill(600, "failed")
    times = iter([now_ms() + 1000 * HOUR])
    sweep = Sweep(database, lambda: next(times, now_ms() - HOUR))
    assert sweep.step() == (0, True)
    fill(1, "succeeded", finished_at=now_ms())
    assert repeated(sweep.step) == 0
    assert count() == {"failed": 600, "succeeded": 1}


def test_a_sweep_reads_no_job_twice(plan):
    """It jumps to where it was, and sorts nothing."""
    found = plan(maintenance._SEEN, 0, 0, 0, 0)
    assert found.startswith("SEARCH job USING INTEGER PRIMARY KEY (rowid>?)")
    assert "B-TREE" not in found


def test_a_job_that_is_to_run_again_stays(database, fill, count, monkeypatch):
    """An operator may retry a cancelled job after a sweep has seen it, and before it is gone."""
    fill(1, "cancelled")
    sweep = Sweep(database, far)
    remove = sweep._remove

    def remove_late(jobs, before):
        with database.write() as connection:
            connection.execute("UPDATE job SET state = 'queued', finished_at = NULL")
        return remove(jobs, before)

    monkeypatch.setattr(sweep, "_remove", remove_late)
    assert sweep.step() == (0, False)
    assert count() == {"queued": 1}


def test_free_pages_are_given_back(database, fill, pages):
    """All but a reserve; the file itself is shorter after a checkpoint."""
    fill(3000, payload='{"text": "' + "x" * 3000 + '"}')
    repeated(Sweep(database, far).step)
    total, free = pages()
    assert free > 2500
    freed = repeated(lambda: free_step(database))
    left, free = pages()
    assert free == 1024
    assert total - freed - 20 < left <= total - freed  # one in 400 told where the others lay
    database.close()  # the last connection to be closed makes a checkpoint
    assert database.files.database.stat().st_size < 1000 * 4096


def test_few_free_pages_are_kept(database, fill, pages):
    """Giving them back would only make the file grow again."""
    fill(300, payload='{"text": "' + "x" * 3000 + '"}')
    repeated(Sweep(database, far).step)
    before = pages()
    assert before[1] > 250
    assert free_step(database) == (0, False)
    assert pages() == before


def test_others_write_while_much_is_pruned(database, jobs, fill, count):
    """Every job that is put meanwhile is there at the end, and none that was to go."""
    fill(3000)
    pruning = threading.Thread(target=lambda: repeated(Sweep(database, far).step))
    pruning.start()
    put = 0
    while pruning.is_alive():
        jobs.put()
        put += 1
    pruning.join()
    assert put > 0
    assert count() == {"queued": put}


def test_the_pruner_does_one_step_at_a_time(database, fill, count):
    """The next one is due soon while more is left, and in a minute after that."""
    fill(501)
    pruner = Pruner(database, 3600.0)
    pruner.do_what_is_due()
    assert 0 < count()["succeeded"] < 501
    assert pruner.due - time.monotonic() < 1
    left = count()
    pruner.do_what_is_due()
    assert count() == left
    work_off(pruner)
    assert count() == {}
    assert 58 < pruner.due - time.monotonic() <= 60


def test_the_pruner_keeps_to_the_retention(database, fill, count):
    """What finished since then stays."""
    fill(2, "succeeded", now_ms() - 2 * HOUR)
    fill(2, "cancelled", now_ms() - HOUR + 60_000)
    Pruner(database, 3600.0).do_what_is_due()
    assert count() == {"cancelled": 2}


def test_long_kept_jobs_are_looked_for_rarely(database, fill):
    """A walk through all jobs comes a hundred times while a job is kept, and once a minute."""
    fill(1, finished_at=now_ms())
    week = Pruner(database, 7 * 86_400.0)
    work_off(week)
    assert 6040 < week.due - time.monotonic() <= 6048


def test_one_process_prunes(database, fill, count):
    """While another one has the lock, a pruner waits for its next time."""
    fill(2)
    pruner = Pruner(database, 3600.0)
    with leading(database.files.prune_lock) as leads:
        assert leads
        pruner.do_what_is_due()
    assert count() == {"succeeded": 2}
    assert 58 < pruner.due - time.monotonic() <= 60
    pruner.due = 0.0
    pruner.do_what_is_due()
    assert count() == {}


def test_a_lock_that_cannot_be_opened_is_told(database, fill, count):
    """It names the file, and the pruner tries again at its next time."""
    fill(1)
    database.files.prune_lock.mkdir()
    pruner = Pruner(database, 3600.0)
    with pytest.raises(QueueUnavailable, match=r"prune\.lock cannot be opened"):
        pruner.do_what_is_due()
    assert pruner.due > time.monotonic()
    assert count() == {"succeeded": 1}


def test_a_supervisor_prunes(start_work, fill, count, wait_until, environment):
    """Step by step, from its start on, after the retention that is set; failed jobs stay."""
    fill(1200, "succeeded", now_ms() - 2 * HOUR)
    fill(10, "failed", now_ms() - 2 * HOUR)
    fill(10, "cancelled", now_ms() - HOUR + 600_000)
    work = start_work("--processes", "1", DISPATCHER_RETENTION="3600")
    wait_until(lambda: count() == {"failed": 10, "cancelled": 10})
    assert work.stop() == 0
