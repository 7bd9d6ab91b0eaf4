"""Jobs from end to end, in real worker processes."""

import os
import signal
from datetime import timedelta

import pytest

from dispatcher_core import Progress
from dispatcher_local_queue.database import now_ms
from dispatcher_local_queue.liveness import birth_of
from dispatcher_local_queue.wakeup import MOST_KEPT

HOOKED_APPLICATION = """
import asyncio, contextvars
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from dispatcher_core import current_job, job

variable = contextvars.ContextVar("variable", default="unset")

def note(line):
    with Path(__file__).with_name("notes").open("a") as notes:
        notes.write(line + "\\n")

@contextmanager
def lifespan():
    note("enter")
    yield ["plain"]
    note("leave")

@asynccontextmanager
async def async_lifespan():
    await asyncio.sleep(0)
    note("enter")
    yield [id(asyncio.get_running_loop()), asyncio.create_task(asyncio.sleep(0, "pooled"))]
    await asyncio.sleep(0)
    note("leave")

@contextmanager
def around(context):
    token = variable.set(context.id)
    try:
        yield
    except BaseException as error:
        note(f"saw {type(error).__name__}")
        raise
    finally:
        variable.reset(token)

@asynccontextmanager
async def async_around(context):
    with around(context):
        await asyncio.sleep(0)
        yield
        await asyncio.sleep(0)

@job("plain")
def plain():
    return [current_job().resources[0], variable.get() == current_job().id]

@job("pooled")
async def pooled():
    loop, task = current_job().resources
    same = loop == id(asyncio.get_running_loop())
    return [same and await task, variable.get() == current_job().id]

@job("broken", tries=2, backoff=0)
async def broken():
    raise OSError
"""


@pytest.fixture
def notes(tmp_path):
    """Reads the lines that handlers have noted so far."""

    def notes() -> list[str]:
        path = tmp_path / "notes"
        return path.read_text().splitlines() if path.exists() else []

    return notes


@pytest.fixture
def folder(tmp_path) -> str:
    """Where handlers note things and wait to be told to go on."""
    return str(tmp_path)


def test_success(start_work, jobs) -> None:
    """A job runs and has its result; its times are in order."""
    start_work()
    status = jobs.ended(jobs.put("add", {"a": 1, "b": 2}))
    assert (status.state, status.result, status.error, status.attempt) == ("succeeded", 3, None, 1)
    assert status.created_at <= status.available_at
    assert status.available_at <= status.started_at <= status.finished_at


def test_every_ending(start_work, jobs) -> None:
    """Failure, retries, Fail, Retry and a payload that fits no longer end as they should."""
    start_work("--processes", "2")
    ids = {
        "lucky": jobs.put("flaky", {"failures": 2}),
        "unlucky": jobs.put("flaky", {"failures": 9}),
        "refused": jobs.put("refuse"),
        "later": jobs.put("later"),
        "odd": jobs.put("add", {"a": 1}),
    }
    ended = {name: jobs.ended(id) for name, id in ids.items()}
    assert {name: (each.state, each.attempt, each.result) for name, each in ended.items()} == {
        "lucky": ("succeeded", 3, 3),
        "unlucky": ("failed", 3, None),
        "refused": ("failed", 1, None),
        "later": ("succeeded", 2, 2),
        "odd": ("failed", 1, None),
    }
    assert ended["lucky"].error is None
    assert ended["unlucky"].error.message == "no luck at try 3"
    assert (ended["refused"].error.type, ended["refused"].error.message) == ("Fail", "never")
    assert ended["odd"].error.code == "invalid-payload"
    # Its delays are 0.05 and 0.2 s.
    assert ended["lucky"].started_at - ended["lucky"].created_at >= timedelta(seconds=0.25)


def test_between_two_tries(start_work, jobs, application) -> None:
    """A job that waits for its next try says when that is, and what went wrong."""
    folder = application(
        "from dispatcher_core import job\n\n"
        "@job('slow-start', tries=2, backoff=60)\n"
        "def slow_start():\n    raise ConnectionError('refused')\n"
    )
    start_work("--processes", "1", app_dir=folder)
    status = jobs.reached(jobs.put("slow-start"), "scheduled")
    assert (status.attempt, status.finished_at) == (1, None)
    assert (status.error.code, status.error.type) == ("exception", "ConnectionError")
    waits = status.available_at - status.started_at
    assert timedelta(seconds=60) <= waits < timedelta(seconds=62)


def test_a_delayed_job_starts_in_time(start_work, jobs) -> None:
    """A delayed job starts when it is due: not before, and soon after."""
    start_work("--processes", "1")
    status = jobs.ended(jobs.put("pid", delay=0.4))
    late = status.started_at - status.available_at
    assert timedelta(0) <= late < timedelta(seconds=1)


def test_an_idle_worker_wakes(start_work, jobs) -> None:
    """An idle worker is woken by an enqueuer, long before it would look by itself."""
    start_work("--processes", "1")
    waits = []
    for _ in range(5):
        status = jobs.ended(jobs.put("pid"))
        waits.append((status.started_at - status.created_at).total_seconds())
    assert min(waits) < 0.1


def test_a_worker_survives_its_handlers(start_work, jobs) -> None:
    """After SystemExit, KeyboardInterrupt and any other failure the same process goes on."""
    start_work("--processes", "1")
    before = jobs.ended(jobs.put("pid")).result
    for how, kind in (("exit", "SystemExit"), ("interrupt", "KeyboardInterrupt")):
        status = jobs.ended(jobs.put("leave", {"how": how}))
        assert (status.state, status.error.type) == ("failed", kind)
    assert jobs.ended(jobs.put("leave", {"how": "?"})).error.type == "KeyError"
    assert jobs.ended(jobs.put("pid")).result == before


def test_progress_and_cancel(start_work, jobs, folder, wait_until) -> None:
    """A running job shows its progress; asked to stop it does, and is cancelled."""
    start_work("--processes", "1")
    id = jobs.put("hold-gently", {"folder": folder})
    wait_until(lambda: jobs.status(id).progress)
    first = jobs.status(id).progress
    wait_until(lambda: jobs.status(id).progress.done > first.done)
    assert first == Progress(first.done, 1_000_000)
    assert jobs.queue.cancel_job(id).state == "running"
    status = jobs.ended(id)
    assert (status.state, status.cancel_requested, status.error) == ("cancelled", True, None)


def test_a_timeout(start_work, jobs) -> None:
    """A handler that overruns its timeout fails with timed-out, and its worker lives.

    Wherever the alarm strikes while it reports progress, the queue stays usable.
    """
    start_work("--processes", "1")
    before = jobs.ended(jobs.put("pid")).result
    ids = [jobs.put("chatty") for _ in range(10)]
    for id in ids:
        assert jobs.ended(id).error.code == "timed-out"
        assert jobs.row(id)["kills"] == 0
    assert jobs.ended(jobs.put("pid")).result == before


def test_a_handler_that_swallows_everything(start_work, jobs, tmp_path) -> None:
    """Five seconds after its timeout a handler that ignores it is killed, which is a try.

    The worker beside it goes on.
    """
    work = start_work("--processes", "2")
    id = jobs.put("stubborn")
    beside = jobs.put("hold", {"folder": str(tmp_path)})
    status = jobs.ended(id)
    assert (status.state, status.error.code, status.attempt) == ("failed", "timed-out", 1)
    assert jobs.row(id)["kills"] == 0
    took = (status.finished_at - status.started_at).total_seconds()
    assert 5.1 <= took < 8
    assert jobs.ended(jobs.put("add", {"a": 1, "b": 2})).result == 3
    assert jobs.status(beside).state == "running"
    (tmp_path / "go").touch()
    assert jobs.ended(beside).state == "succeeded"
    assert jobs.row(beside)["kills"] == 0
    assert work.stop() == 0
    assert "stopped: 1 failed, 2 succeeded; 0 put back" in work.text


def test_an_unknown_name(start_work, jobs) -> None:
    """A name that no worker knows is put back for 30 s, and after 15 minutes it fails."""
    work = start_work("--processes", "1")
    id = jobs.put("nobody")
    status = jobs.reached(id, "scheduled")
    assert (status.attempt, status.error) == (0, None)
    row = jobs.row(id)
    assert 29_000 <= row["available_at"] - now_ms() <= 30_000
    assert now_ms() - row["unknown_since"] < 10_000
    assert "'nobody'" in work.text
    jobs.change(id, unknown_since=now_ms() - 15 * 60_000, available_at=now_ms())
    status = jobs.ended(id)
    assert (status.state, status.error.code) == ("failed", "unknown-job")


def test_a_name_that_becomes_known(start_work, jobs) -> None:
    """A name that was unknown until a deploy runs after it, and forgets that."""
    id = jobs.put("pid", delay=60)
    jobs.change(id, unknown_since=1, available_at=1)
    start_work("--processes", "1")
    assert jobs.ended(id).state == "succeeded"
    assert jobs.row(id)["unknown_since"] is None


# How long a worker process lives


def test_burst(start_work, jobs) -> None:
    """With --burst it ends once nothing waits, whatever is only scheduled."""
    ids = [jobs.put("add", {"a": n, "b": 1}, queue=f"q{n}") for n in range(4)]
    later = jobs.put("pid", delay=60)
    work = start_work("--burst", "--processes", "2", until="stopped")
    assert work.wait() == 0
    assert [jobs.status(id).result for id in ids] == [1, 2, 3, 4]
    assert jobs.status(later).state == "scheduled"
    assert "4 succeeded; 0 put back" in work.text
    assert jobs.workers() == []


def test_ready_though_one_has_left(start_work, application) -> None:
    """It is ready once each process has been, also when the first has left before the last."""
    folder = application(
        "import os, time\nfrom pathlib import Path\n"
        "first = Path(__file__).with_name('first')\n"
        "try:\n    first.touch(exist_ok=False)\n"
        "except FileExistsError:\n"
        "    while not (pid := first.read_text()) or Path('/proc', pid).exists():\n"
        "        time.sleep(0.005)\n"
        "else:\n    first.write_text(str(os.getpid()))\n"
    )
    work = start_work("--burst", "--processes", "2", app_dir=folder, until="stopped")
    assert work.wait() == 0
    said = [line.partition(": ")[2] for line in work.lines]
    assert [line for line in said if line == "ready" or line.startswith("jobs known")] == [
        *("jobs known: none: set DISPATCHER_MODULES", "ready"),
    ]


def test_max_jobs(start_work, jobs) -> None:
    """With --max-jobs a process is replaced after so many, and none of its jobs is lost."""
    start_work("--processes", "1", "--max-jobs", "2")
    pids = [jobs.ended(id).result for id in [jobs.put("pid") for _ in range(5)]]
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [2, 2, 1]


def test_a_burst_of_processes_that_are_replaced(start_work, jobs) -> None:
    """With --burst and --max-jobs it ends once nothing waits, not with its first process."""
    ids = [jobs.put("pid") for _ in range(3)]
    work = start_work("--burst", "--processes", "1", "--max-jobs", "1", until="stopped")
    assert work.wait() == 0
    assert len({jobs.status(id).result for id in ids} - {None}) == 3
    assert "3 succeeded; 0 put back" in work.text


def test_max_time(start_work, jobs, wait_until) -> None:
    """With --max-time a process is replaced after so long."""
    start_work("--processes", "1", "--max-time", "0.5")
    first = jobs.ended(jobs.put("pid")).result
    wait_until(lambda: jobs.ended(jobs.put("pid")).result != first)


# Which queues are served


@pytest.mark.parametrize(
    ("arguments", "order"),
    [(("--queues", "b,c"), ["b", "c"]), ((), ["default", "a", "b", "c"])],
    ids=["named", "all"],
)
def test_the_order_of_queues(start_work, jobs, folder, notes, arguments, order) -> None:
    """Queues are served in the order named; else all of them, default first, then by name."""
    ids = {}
    for queue in ("c", "b", "a", "default"):
        for _ in range(2):
            ids[jobs.put("pid", {"folder": folder}, queue=queue)] = queue
    work = start_work(*arguments, "--processes", "1", "--burst", until="stopped")
    assert work.wait() == 0
    assert [ids[id] for id in notes()] == [queue for queue in order for _ in range(2)]
    waiting = {queue for id, queue in ids.items() if jobs.status(id).state == "queued"}
    assert waiting == {"a", "b", "c", "default"} - set(order)


def test_a_new_queue(start_work, jobs) -> None:
    """A queue that did not exist is served within about a second, without a restart."""
    start_work("--processes", "1")
    jobs.ended(jobs.put("pid"))
    status = jobs.ended(jobs.put("pid", queue="brand-new"))
    assert status.started_at - status.created_at < timedelta(seconds=3)


# What the application brings


@pytest.mark.parametrize("kind", ["", "async_"], ids=["plain", "async"])
def test_hooks(start_work, application, jobs, kind) -> None:
    """A lifespan is entered once a process, around_job surrounds each try; both are left."""
    folder = application(HOOKED_APPLICATION)
    work = start_work(
        *("--processes", "1"),
        app_dir=folder,
        DISPATCHER_LIFESPAN=f"shop:{kind}lifespan",
        DISPATCHER_AROUND_JOB=f"shop:{kind}around",
    )
    for _ in range(2):
        if kind:
            assert jobs.ended(jobs.put("pooled")).result == ["pooled", True]
        else:
            assert jobs.ended(jobs.put("plain")).result == ["plain", True]
    assert jobs.ended(jobs.put("broken")).attempt == 2
    assert work.stop() == 0
    notes = (folder / "notes").read_text().splitlines()
    assert notes == ["enter", "saw OSError", "saw OSError", "leave"]


def test_aliases(start_work, jobs, tmp_path) -> None:
    """An alias runs what it names, mark or not, with the options that it sets."""
    start_work("--processes", "1", DISPATCHER_ALIASES="working-folder=os.getcwd,sum=shop:add")
    assert jobs.ended(jobs.put("working-folder")).result == str(tmp_path)
    assert jobs.ended(jobs.put("sum", {"a": 2, "b": 3})).result == 5


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("def f(:", "SyntaxError"),
        ("raise SystemExit(0)", "SystemExit"),
        ("1 / 0", "ZeroDivisionError"),
        ("raise OSError('no\\nnet')", "OSError: no net"),
    ],
    ids=["missing", "syntax", "exit", "error", "lines"],
)
def test_a_module_that_does_not_import(start_work, application, text, reason) -> None:
    """An application that does not import stops the start with one line that says why."""
    work = start_work("-q", "--processes", "2", app_dir=application(text), until="shop")
    assert work.wait() == 2
    (line,) = work.lines
    assert "'shop'" in line
    assert reason in line


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("DISPATCHER_MODULES", "no_such_module"),
        ("DISPATCHER_ALIASES", "x=no_such_module.call"),
        ("DISPATCHER_LIFESPAN", "shop:no_such_hook"),
        ("DISPATCHER_AROUND_JOB", "no_such_module:hook"),
    ],
)
def test_something_that_does_not_load(start_work, setting, value) -> None:
    """Whatever of the application does not load is named in one line, exit code 2."""
    work = start_work("-q", "--processes", "1", until="no_such", **{setting: value})
    assert work.wait() == 2
    assert len(work.lines) == 1


def test_a_lifespan_that_fails(start_work, application, jobs, wait_until) -> None:
    """A lifespan that raises is logged, and tried again with growing pauses, for ever."""
    folder = application(
        "from contextlib import contextmanager\n"
        "@contextmanager\ndef life():\n    raise OSError('no database')\n    yield\n"
    )
    work = start_work(
        *("--processes", "1"),
        app_dir=folder,
        until="workers die as soon as they start: the next in 0.4 s",
        DISPATCHER_LIFESPAN="shop:life",
    )
    assert "OSError: no database" in work.text
    assert work.stop() == 0


def test_a_burst_whose_lifespan_fails(start_work, application) -> None:
    """With --burst nobody waits until what a lifespan needs comes back."""
    folder = application("def life():\n    raise OSError('no database')\n")
    work = start_work(
        *("-q", "--burst", "--processes", "1"),
        app_dir=folder,
        until="by hand (shop:life, shop)",
        DISPATCHER_LIFESPAN="shop:life",
    )
    assert work.wait() == 2
    assert "worker processes die (exit 1) while they set up the application" in work.lines[-1]


def test_a_lifespan_that_fails_at_its_end(start_work, application, jobs) -> None:
    """A worker that has run all jobs has done its work, even if its lifespan fails after it."""
    folder = application(
        "from contextlib import contextmanager\nfrom dispatcher_core import job\n"
        "@contextmanager\ndef life():\n    yield\n    raise OSError('already closed')\n"
        "@job('add')\ndef add(a, b):\n    return a + b\n"
    )
    ids = [jobs.put("add", {"a": 1, "b": 2}) for _ in range(3)]
    work = start_work(
        *("--processes", "1", "--burst"),
        app_dir=folder,
        until="stopped",
        DISPATCHER_LIFESPAN="shop:life",
    )
    assert work.wait() == 0
    assert {jobs.status(id).state for id in ids} == {"succeeded"}
    assert work.text.count("OSError: already closed") == 1
    assert "stopped: 3 succeeded; 0 put back" in work.text


def test_a_module_that_ends_the_process(start_work, application) -> None:
    """When the import of the application kills whoever tries, work ends and names the modules."""
    folder = application("import os\nos._exit(5)\n")
    work = start_work("-q", "--processes", "1", app_dir=folder, until="by hand (shop)")
    assert work.wait() == 2
    assert work.text.count("died (exit 5)\n") == 5
    assert "worker processes die (exit 5) while they load the application" in work.lines[-1]


def test_a_module_that_kills_later_processes(start_work, application, jobs, wait_until) -> None:
    """Where a process has once come up, work goes on however often the others die at once."""
    folder = application(
        "import os\nfrom pathlib import Path\nfrom dispatcher_core import job\n"
        "gate = Path(__file__).with_name('gate')\n"
        "if gate.exists():\n    os._exit(5)\n"
        "@job('add')\ndef add(a, b):\n    return a + b\n"
    )
    work = start_work("--processes", "1", app_dir=folder)
    gate = folder / "gate"
    gate.touch()
    os.kill(jobs.workers()[0].pid, signal.SIGKILL)
    wait_until(lambda: "the next in 0.4 s" in work.text)
    gate.unlink()
    assert jobs.ended(jobs.put("add", {"a": 1, "b": 2})).result == 3
    assert work.stop() == 0


# What handlers leave behind


def test_what_a_handler_left_in_its_group(start_work, jobs, folder) -> None:
    """When a worker dies, what its handler had started is gone before the second run."""
    start_work("--processes", "1")
    status = jobs.ended(jobs.put("litter", {"folder": folder}))
    assert (status.state, status.result) == ("succeeded", False)


@pytest.mark.parametrize("way", ["fork", "subprocess", "c-fork"])
def test_children_do_not_hinder_recovery(
    start_work, jobs, tmp_path, doomed_child, wait_until, way
) -> None:
    """A child that a handler left in a session of its own keeps no job from starting again.

    Worker and supervisor are killed: another supervisor has to find the worker dead.
    """
    first = start_work("--processes", "1")
    id = jobs.put("bequeath", {"folder": str(tmp_path), "way": way})
    wait_until(lambda: (tmp_path / "notes").exists())
    child = doomed_child(int((tmp_path / "child").read_text()))
    (worker,) = jobs.workers()
    first.process.kill()
    first.wait()
    os.kill(worker.pid, signal.SIGKILL)
    start_work("--processes", "1")
    assert jobs.ended(id).result == way
    assert jobs.row(id)["kills"] == 1
    assert birth_of(child), "the child was to run on"


def test_more_queues_than_are_remembered(start_work, jobs) -> None:
    """However many queues there have been, each job is found."""
    start_work("--processes", "1")
    ids = [jobs.put("pid", queue=f"tenant-{number}") for number in range(MOST_KEPT + 20)]
    assert {jobs.ended(id).state for id in ids} == {"succeeded"}
    assert jobs.ended(jobs.put("pid", queue="tenant-0")).state == "succeeded"
