import threading
import time

import pytest

from dispatcher_core.errors import QueueUnavailable
from dispatcher_local_queue import maintenance
from dispatcher_local_queue.database import now_ms
from dispatcher_local_queue.leading import leading
from dispatcher_local_queue.maintenance import Pruner, free_step, prune_step, repeated

HOUR = 3_600_000
FAR = 2**62


@pytest.fixture
def fill(database):
    """Puts many jobs of one state into the table, the first of which finished first."""

    def fill(number, state="succeeded", finished_at=0, payload="{}"):
        with database.write() as connection:
            connection.executemany(
                "INSERT INTO job (id, name, queue, priority, state, created_at,"
                " payload, finished_at) VALUES (?, 'add', 'default', 0, ?, 0, ?, ?)",
                (
                    (f"{state}-{each}", state, payload, finished_at + each)
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


def test_only_what_succeeded_or_was_cancelled_is_pruned(database, jobs, fill, count):
    """Jobs that failed, run or wait stay, whatever their times say."""
    for state in ("succeeded", "failed", "cancelled", "queued", "scheduled", "running"):
        fill(1, state)
    assert prune_step(database, FAR) == (2, False)
    assert count() == dict.fromkeys(("failed", "queued", "scheduled", "running"), 1)


def test_a_step_removes_the_oldest(database, fill):
    """A few at a time, and none that is too young."""
    fill(3, "succeeded", 1000)
    fill(3, "cancelled", 2000)
    assert prune_step(database, 2000) == (4, False)
    with database.read() as connection:
        left = connection.execute("SELECT id FROM job ORDER BY seq").fetchall()
    assert left == [("cancelled-1",), ("cancelled-2",)]


def test_a_step_is_short(database, fill, count):
    """However much there is to remove: a step says that more is left, and others do it."""
    fill(1200)
    first = prune_step(database, FAR)
    assert 0 < first.removed <= 500
    assert first.more
    assert repeated(lambda: prune_step(database, FAR)) == 1200 - first.removed
    assert count() == {}


def test_a_step_that_takes_long_ends(database, fill, monkeypatch):
    """When its time is over, as where payloads are big; but it always gets somewhere."""
    monkeypatch.setattr(maintenance, "_LONGEST_STEP", 0.0)
    fill(600, payload='{"text": "' + "x" * 3000 + '"}')
    assert prune_step(database, FAR) == (1, True)
    assert repeated(lambda: prune_step(database, FAR)) == 599
    assert free_step(database) == (1, True)


def test_old_jobs_are_found_by_an_index_without_the_others(plan, database):
    """So that a growing number of failed jobs costs nothing."""
    found = plan(maintenance._OLD, 0, 0)
    assert found.startswith("SEARCH job USING INDEX job_finished (finished_at<?)")
    with database.read() as connection:
        (text,) = connection.execute(
            "SELECT sql FROM sqlite_master WHERE name = 'job_finished'"
        ).fetchone()
    assert text.endswith("WHERE state IN ('succeeded', 'cancelled')")


def test_free_pages_are_given_back(database, fill, pages):
    """All but a reserve; the file itself is shorter after a checkpoint."""
    fill(3000, payload='{"text": "' + "x" * 3000 + '"}')
    repeated(lambda: prune_step(database, FAR))
    total, free = pages()
    assert free > 2500
    freed = repeated(lambda: free_step(database))
    left, free = pages()
    assert free == 512
    assert total - freed - 10 < left <= total - freed  # a few told where the others lay
    database.close()  # the last connection to be closed makes a checkpoint
    assert database.files.database.stat().st_size < 1000 * 4096


def test_few_free_pages_are_kept(database, fill, pages):
    """Giving them back would only make the file grow again."""
    fill(300, payload='{"text": "' + "x" * 3000 + '"}')
    repeated(lambda: prune_step(database, FAR))
    before = pages()
    assert before[1] > 250
    assert free_step(database) == (0, False)
    assert pages() == before


def test_others_write_while_much_is_pruned(database, jobs, fill, count):
    """Every job that is put meanwhile is there at the end, and none that was to go."""
    fill(3000)
    pruning = threading.Thread(target=lambda: repeated(lambda: prune_step(database, FAR)))
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
    while count():
        pruner.due = 0.0
        pruner.do_what_is_due()
    assert 58 < pruner.due - time.monotonic() <= 60


def test_the_pruner_keeps_to_the_retention(database, fill, count):
    """What finished since then stays."""
    fill(2, "succeeded", now_ms() - 2 * HOUR)
    fill(2, "cancelled", now_ms() - HOUR + 60_000)
    Pruner(database, 3600.0).do_what_is_due()
    assert count() == {"cancelled": 2}


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
