import pytest

from dispatcher_local_queue import memory
from dispatcher_local_queue.memory import MEBIBYTE, resident_memory

APPLICATION = """
import os
from dispatcher_core import job

kept = []

@job("pid")
def pid() -> int:
    return os.getpid()

@job("grow")
def grow(mebibytes: int) -> int:
    kept.append(b"x" * (mebibytes << 20))
    return os.getpid()
"""


def test_what_is_held_is_counted():
    """In bytes, as the kernel sees it."""
    before = resident_memory()
    held = b"x" * (64 * MEBIBYTE)
    grown = resident_memory() - before
    assert 60 * MEBIBYTE < grown < 80 * MEBIBYTE
    assert len(held) == 64 * MEBIBYTE


def test_without_proc_it_is_the_peak(tmp_path, monkeypatch):
    """Which is at least what is held now."""
    least = resident_memory()
    monkeypatch.setattr(memory, "_STATM", tmp_path / "statm")
    assert least * 0.9 <= resident_memory() < 100 * least


def test_a_worker_that_has_grown_is_replaced(start_work, jobs, application):
    """After the job that made it grow, and not before."""
    folder = application(APPLICATION)
    start_work("--processes", "1", "--max-memory", "150", app_dir=folder)
    ids = [jobs.put("pid"), jobs.put("grow", {"mebibytes": 1})]
    ids += [jobs.put("grow", {"mebibytes": 150}), jobs.put("pid")]
    pids = [jobs.ended(id).result for id in ids]
    assert len(set(pids[:3])) == 1
    assert pids[3] not in pids[:3]


@pytest.mark.parametrize("limit", [("--max-memory", "1"), ("--max-jobs", "1")])
def test_a_worker_runs_a_job_before_it_is_replaced(start_work, jobs, application, limit):
    """One, even where it is over the limit before it began; all jobs are run."""
    folder = application(APPLICATION)
    ids = [jobs.put("pid") for _ in range(3)]
    work = start_work("--processes", "1", *limit, app_dir=folder)
    pids = [jobs.ended(id).result for id in ids]
    assert len(set(pids)) == 3
    assert work.stop() == 0
    assert "died" not in work.text
