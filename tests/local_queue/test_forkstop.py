"""Processes that an application forks and that leave its code: none goes on as a worker."""

import re

import pytest

FORKING_APPLICATION = """
import os, sys
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from dispatcher_core import current_job, job

def note(line):
    with Path(__file__).with_name("notes").open("a") as notes:
        notes.write(f"{line}\\n")

class Unspeakable(Exception):
    def __str__(self):
        sys.exit(3)

def leave(how):
    print("left by", how)  # to a file, so it stays in the buffer
    if how == "returning":
        return 0
    raise {
        "code": SystemExit(7),
        "text": SystemExit("so much for that"),
        "none": SystemExit,
        "error": ValueError("no luck in the fork"),
        "interrupt": KeyboardInterrupt,
        "unspeakable": Unspeakable,
    }[how]

def ended(child):
    "The exit status of the fork, which has ended while its parent's code still runs."
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

@job("plain", timeout=30)
def plain(how):
    child = os.fork()
    try:
        return ended(child) if child else leave(how)
    finally:
        note("parent" if child else "fork")

@job("coroutine", timeout=30)
async def coroutine(how):
    return plain(how)

@job("pid")
def pid():
    note(current_job().id)
    return os.getpid()

def fork():
    if child := os.fork():
        note(f"{os.getpid()} {ended(child)}")
    else:
        leave(os.environ["LEAVES_BY"])

@contextmanager
def hook(context=None):
    fork()
    yield

@asynccontextmanager
async def async_hook(context=None):
    with hook():
        yield

@contextmanager
def late_hook(context=None):
    yield
    fork()

if "FORK_ON_IMPORT" in os.environ:
    fork()
"""

STATUSES = {
    "returning": 0,
    "code": 7,
    "text": 1,
    "none": 0,
    "error": 1,
    "interrupt": 1,
    "unspeakable": 1,
}


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_a_fork_that_leaves_its_handler(application, start_work, jobs, kind) -> None:
    """Whatever way it leaves, it ends as Python would end it, and its parent goes on alone.

    Each job ends once, with the parent's result, and is started once.
    """
    folder = application(FORKING_APPLICATION)
    work = start_work("--processes", "1", app_dir=folder)
    ids = {how: jobs.put(kind, {"how": how}) for how in STATUSES}
    following = [jobs.put("pid") for _ in range(3)]
    ended = {how: jobs.ended(id) for how, id in ids.items()}
    assert {how: each.result for how, each in ended.items()} == STATUSES
    (worker,) = jobs.workers()
    assert [jobs.ended(id).result for id in following] == [worker.pid] * 3
    assert work.stop() == 0
    notes = (folder / "notes").read_text().splitlines()
    assert notes == ["fork", "parent"] * len(STATUSES) + following
    total = len(STATUSES) + 3
    assert f"stopped: {total} succeeded; 0 put back" in work.text
    assert sorted(re.findall("left by (.*)", work.text)) == sorted(STATUSES)
    assert "ValueError: no luck in the fork" in work.text
    assert "so much for that" in work.text


@pytest.mark.parametrize(
    ("setting", "value", "way"),
    [
        ("DISPATCHER_LIFESPAN", "shop:hook", "returning"),
        ("DISPATCHER_LIFESPAN", "shop:async_hook", "returning"),
        ("DISPATCHER_LIFESPAN", "shop:late_hook", "returning"),
        ("DISPATCHER_AROUND_JOB", "shop:hook", "code"),
        ("DISPATCHER_AROUND_JOB", "shop:async_hook", "code"),
        ("DISPATCHER_AROUND_JOB", "shop:late_hook", "code"),
        ("FORK_ON_IMPORT", "yes", "returning"),
        ("FORK_ON_IMPORT", "yes", "code"),
    ],
)
def test_a_fork_that_leaves_a_hook(application, start_work, jobs, setting, value, way) -> None:
    """A fork made in a hook, or by a module while it is imported, ends there too."""
    folder = application(FORKING_APPLICATION)
    id = jobs.put("pid")
    variables = {setting: value, "LEAVES_BY": way}
    work = start_work(
        *("--processes", "1", "--burst"), app_dir=folder, until="stopped", **variables
    )
    assert work.wait() == 0
    forked = f"{jobs.status(id).result} {STATUSES[way]}"
    assert sorted((folder / "notes").read_text().splitlines()) == sorted([forked, id])
    assert "stopped: 1 succeeded; 0 put back" in work.text
