"""What goes wrong with the disk and the file: told clearly, nothing is lost, work goes on."""

import os
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from dispatcher_core import JobMessage, QueueError, QueueUnavailable
from dispatcher_local_queue import SQLiteQueue
from dispatcher_local_queue.filesystem import check_file_system

NOBODY = 65534
FULL = r"queue\.sqlite3 cannot grow: the disk is full: free some space"

PUT_PAST_THE_LIMIT = """
import resource, sys
from dispatcher_core import QueueUnavailable
from dispatcher_core.wire import JobMessage
from dispatcher_local_queue import SQLiteQueue

queue = SQLiteQueue(sys.argv[1])
kept = []

def put(id):
    queue.put(JobMessage(id=id, job="add", payload={"text": "x" * 3000}, queue="default",
                         delay=0.0, priority=0, trace=None))
    kept.append(id)

hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
refusal = None
while refusal is None:
    try:
        put(f"job-{len(kept)}")
    except QueueUnavailable as error:
        refusal = str(error)
before = len(kept)
assert all(queue.find_job(id) for id in kept)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
for number in range(50):
    put(f"job-{len(kept)}")
print(before, len(kept), refusal, sep="; ")
"""

PUT_AS_NOBODY = """
import os, pwd, sys
from dispatcher_core import QueueUnavailable
from dispatcher_core.wire import JobMessage
from dispatcher_local_queue import SQLiteQueue

queue = SQLiteQueue(sys.argv[1])
os.setgroups([])
os.setgid(int(sys.argv[2]))
os.setuid(int(sys.argv[2]))
job = JobMessage(id="theirs", job="add", payload={}, queue="default", delay=0.0, priority=0,
                 trace=None)
for _ in sys.stdin:
    try:
        print(queue.put(job), queue.find_job("theirs").state, flush=True)
    except QueueUnavailable as error:
        print(error, flush=True)
"""


@pytest.fixture
def path(request, tmp_path) -> Path:
    """The queue's file: on a disk of its own, or where others come, if the test says so."""
    for place in ("disk", "public_folder"):
        if place in request.fixturenames:
            return request.getfixturevalue(place) / "queue.sqlite3"
    return tmp_path / "queue.sqlite3"


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A disk of 2 MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a disk")
    folder = tmp_path / "disk"
    folder.mkdir()
    options = ["-o", "size=2m,mode=755"]
    mounted = subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", str(folder)])
    if mounted.returncode:
        pytest.skip("no disk can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def remount(disk) -> Callable[[str], None]:
    """Changes the options of the disk."""

    def remount(options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], check=True)

    return remount


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that other users can enter, but not write to."""
    if os.geteuid() != 0:
        pytest.skip("only root may become another user")
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.fixture
def put_as_nobody(script, path) -> Callable[[], str]:
    """Puts a job as another user, and tells what came of it."""
    process = script(PUT_AS_NOBODY, path, NOBODY)

    def put() -> str:
        process.stdin.write("put\n")
        process.stdin.flush()
        return str(process.stdout.readline())

    return put


def fill(disk: Path) -> Path:
    """Use up the disk to its last byte, and tell the file that does it."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(65536))
    return filler


def put_until_full(
    queue: SQLiteQueue, message: Callable[..., JobMessage]
) -> tuple[list[str], JobMessage]:
    """Put jobs until there is no space: the ids of those that were kept, and the other."""
    kept: list[str] = []
    while True:
        job = message("add", {"text": "x" * 2000})
        try:
            queue.put(job)
        except QueueUnavailable:
            return kept, job
        kept.append(job.id)


def verdict(jobs) -> str:
    """What SQLite finds when it checks the whole file."""
    with jobs.database.read() as connection:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])


# The disk is full


def test_a_full_disk(disk, jobs, message) -> None:
    """On a full disk a put is refused, what was put is there, and with space it goes on."""
    filler = disk / "filler"
    filler.write_bytes(bytes(512 * 1024))
    kept, refused = put_until_full(jobs.queue, message)
    assert len(kept) > 10
    assert all(jobs.status(id).state == "queued" for id in kept)
    assert jobs.queue.find_job(refused.id) is None
    big = message("add", {"text": "x" * 100_000})
    with pytest.raises(QueueUnavailable, match=FULL):
        jobs.queue.put(big)
    filler.unlink()
    assert [jobs.queue.put(job) for job in (big, refused)] == [True, True]
    assert verdict(jobs) == "ok"


def test_threads_on_a_full_disk(disk, jobs, message) -> None:
    """Threads that share commits on a full disk learn the truth too, each about its own jobs."""
    filler = disk / "filler"
    filler.write_bytes(bytes(512 * 1024))
    results: list[tuple[list[str], JobMessage]] = []
    threads = [
        threading.Thread(target=lambda: results.append(put_until_full(jobs.queue, message)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    kept = [id for ids, _ in results for id in ids]
    with jobs.database.read() as connection:
        found = {id for (id,) in connection.execute("SELECT id FROM job")}
    assert found == set(kept)
    filler.unlink()
    assert [jobs.queue.put(refused) for _, refused in results] == [True] * 8
    assert verdict(jobs) == "ok"


def test_a_checkpoint_on_a_full_disk(disk, jobs, message, monkeypatch, caplog) -> None:
    """A job is kept though the disk has no space left to write the log back."""
    monkeypatch.setattr("dispatcher_local_queue.database.PAGES_BETWEEN", 1)
    jobs.put("add", {"text": "x" * 100_000})  # the log keeps this space
    filler = fill(disk)
    kept, refused = put_until_full(jobs.queue, message)
    assert len(kept) > 3
    assert "is not written back" in caplog.text
    assert all(jobs.status(id).state == "queued" for id in kept)
    filler.unlink()
    assert jobs.queue.put(refused) is True
    assert verdict(jobs) == "ok"


def test_a_file_that_may_not_grow(script, path, jobs) -> None:
    """A limit on the size of files is like a full disk, and passes like one."""
    process = script(PUT_PAST_THE_LIMIT, path)
    before, after, refusal = process.stdout.readline().split("; ")
    assert process.wait(20) == 0
    assert "queue.sqlite3 cannot" in refusal
    assert "the disk is full" in refusal
    assert "free some space" in refusal
    assert (int(before) > 5, int(after)) == (True, int(before) + 50)
    assert all(jobs.queue.find_job(f"job-{number}") for number in range(int(after)))
    assert verdict(jobs) == "ok"


def test_no_space_for_a_new_queue(disk, remount, queue, message) -> None:
    """Where not even a file can be made, the message says so, and later it works."""
    remount("nr_inodes=1")
    with pytest.raises(QueueUnavailable, match=r"No space left on device; free some space, or"):
        queue.put(message())
    remount("nr_inodes=100")
    assert queue.put(message()) is True


def test_a_job_that_ends_on_a_full_disk(disk, jobs, start_work, tmp_path, wait_until) -> None:
    """A worker keeps the ending of its job until there is space, and runs it once."""
    work = start_work("--processes", "1")
    id = jobs.put("hold", {"folder": str(tmp_path)})
    jobs.reached(id, "running")
    wait_until((tmp_path / "notes").exists)
    filler = fill(disk)
    (tmp_path / "go").touch()
    wait_until(lambda: "the disk is full: free some space; trying again" in work.text)
    assert jobs.status(id).state == "running"
    with pytest.raises(QueueUnavailable, match=FULL):
        jobs.put()
    filler.unlink()
    status = jobs.ended(id)
    assert (status.state, status.attempt) == ("succeeded", 1)
    assert jobs.row(id)["kills"] == 0
    assert len((tmp_path / "notes").read_text().splitlines()) == 1
    assert jobs.ended(jobs.put("pid")).state == "succeeded"
    assert "Traceback" not in work.text
    assert work.stop() == 0
    assert verdict(jobs) == "ok"


def test_a_worker_that_dies_on_a_full_disk(disk, jobs, start_work, tmp_path, wait_until) -> None:
    """A supervisor tells once that it cannot put a job back, and does when there is space."""
    work = start_work("--processes", "1")
    id = jobs.put("hold", {"folder": str(tmp_path)})
    jobs.reached(id, "running")
    wait_until((tmp_path / "notes").exists)
    filler = fill(disk)
    os.kill(int((tmp_path / "notes").read_text()), signal.SIGKILL)
    wait_until(lambda: "the disk is full: free some space" in work.text)
    (tmp_path / "go").touch()
    filler.unlink()
    status = jobs.ended(id)
    assert (status.state, status.attempt) == ("succeeded", 1)
    assert jobs.row(id)["kills"] == 1
    assert work.text.count("the disk is full") == 1
    assert "Traceback" not in work.text
    assert work.stop() == 0


# The file may not be written


def give_away(folder: Path) -> None:
    """Give a folder and all that it holds to nobody."""
    for each in (folder, *folder.rglob("*")):
        shutil.chown(each, NOBODY, NOBODY)


@pytest.mark.parametrize("mode", [0o600, 0o644], ids=oct)
def test_a_file_of_another_user(mode, public_folder, put_as_nobody, queue, message, path):
    """The message names both users and what to do; once that is done, the put works."""
    queue.put(message())
    path.chmod(mode)
    said = put_as_nobody()
    assert said.startswith(f"the queue's file {path} cannot be opened: let this user read and")
    assert "this process runs as nobody, uid 65534" in said
    assert f"{path} belongs to root, uid 0, mode {mode:o}" in said
    give_away(path.parent)
    assert put_as_nobody() == "True queued\n"
    assert queue.find_job("theirs").state == "queued"


@pytest.mark.parametrize("mode", [0o700, 0o755], ids=oct)
def test_a_folder_of_another_user(mode, public_folder, put_as_nobody, queue, message, path):
    """A folder that may not be written or entered is named, with both users."""
    path.parent.chmod(mode)
    said = put_as_nobody()
    assert "cannot be made or opened: Permission denied" in said
    assert "this process runs as nobody, uid 65534" in said
    assert f"{path.parent} belongs to root, uid 0, mode {mode:o}" in said
    assert "let this user write to its folder, or set DISPATCHER_QUEUE_URL" in said
    assert list(path.parent.iterdir()) == []
    queue.put(message())
    give_away(path.parent)
    assert put_as_nobody() == "True queued\n"


def test_a_folder_above_of_another_user(public_folder, script, queue) -> None:
    """Where a folder further up keeps others out, it is the one that is named."""
    deep = public_folder / "kept" / "deeper"
    deep.mkdir(parents=True)
    deep.parent.chmod(0o700)
    process = script(PUT_AS_NOBODY, deep / "queue.sqlite3", NOBODY)
    said = process.communicate("put\n", timeout=20)[0]
    assert "Permission denied" in said
    assert f"{deep.parent} belongs to root, uid 0, mode 700" in said


def test_a_read_only_disk(disk, remount, queue, message, path) -> None:
    """On a disk that may only be read, the message says so; then it works again."""
    queue.put(message())
    queue.close()
    remount("ro")
    with pytest.raises(QueueUnavailable, match=r"is on a disk that is mounted read-only"):
        queue.put(message())
    remount("rw")
    assert queue.put(message()) is True


def test_a_new_queue_on_a_read_only_disk(disk, remount, queue, message) -> None:
    """Where no file can be made since the disk may only be read, the message says so."""
    remount("ro")
    with pytest.raises(QueueUnavailable, match=r"Read-only file system.*DISPATCHER_QUEUE_URL"):
        queue.put(message())
    remount("rw")
    assert queue.put(message()) is True


# The file is damaged


def overwrite(path: Path, start: int) -> None:
    """Overwrite the file with rubbish, from some byte on."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\xa5" * (size - start))


def spoil_the_middle(path: Path) -> None:
    overwrite(path, 4096)


def spoil_the_beginning(path: Path) -> None:
    overwrite(path, 0)


def move_away(path: Path) -> None:
    """What the message says: move the file and what SQLite keeps beside it."""
    for each in path.parent.glob(f"{path.name}*"):
        if each.is_file():
            each.rename(each.with_name(f"old-{each.name}"))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (spoil_the_middle, "is damaged: restore it, or move it away"),
        (spoil_the_beginning, "is no SQLite database: move it away"),
    ],
)
def test_a_damaged_file(spoil, reason, queue, message, path) -> None:
    """Rubbish in the file is not for now only; moved away, it makes room for a new queue."""
    for _ in range(100):
        queue.put(message("add", {"text": "x" * 500}))
    queue.close()
    spoil(path)
    for act in (lambda: queue.put(message()), lambda: queue.find_job("any")):
        with pytest.raises(QueueError, match=rf"queue\.sqlite3 {reason}") as caught:
            act()
        assert not isinstance(caught.value, QueueUnavailable)
    move_away(path)
    job = message()
    assert queue.put(job) is True
    assert queue.find_job(job.id).state == "queued"


@pytest.mark.parametrize("spoil", [spoil_the_middle, spoil_the_beginning])
def test_commands_on_a_damaged_file(spoil, queue, message, path, dispatcher) -> None:
    """Every command says in one line what is wrong with the file, and exits 1."""
    for _ in range(100):
        queue.put(message("add", {"text": "x" * 500}))
    queue.close()
    spoil(path)
    for command in (["health"], ["queue", "stats"], ["work", "-q", "--burst"]):
        ended = dispatcher(*command)
        assert ended.returncode == 1, ended.stderr
        assert "queue.sqlite3 is" in ended.stderr
        assert "move it away" in ended.stderr
        assert len(ended.stderr.splitlines()) == 1, ended.stderr


def test_a_file_without_a_byte(queue, message, path) -> None:
    """A file of no bytes is a new queue, also beside what another one left."""
    path.touch(0o600)
    path.with_name(f"{path.name}-wal").write_bytes(b"rubbish" * 1000)
    job = message()
    assert queue.put(job) is True
    queue.close()
    assert queue.find_job(job.id).state == "queued"


@pytest.mark.parametrize(
    "rubbish", [b"\xa5" * 100_000, bytes.fromhex("377f0682") * 25_000, b"x"], ids=range(3)
)
def test_a_spoilt_log(rubbish, jobs, message, path) -> None:
    """Rubbish in place of the log is passed over: what the file itself has is there."""
    kept = [jobs.put() for _ in range(50)]
    jobs.queue.close()
    log = path.with_name(f"{path.name}-wal")
    assert not log.exists()
    log.write_bytes(rubbish)
    assert all(jobs.status(id).state == "queued" for id in kept)
    assert jobs.queue.put(message()) is True
    assert verdict(jobs) == "ok"


# Something is deleted


def delete_the_file(path: Path) -> None:
    path.unlink()


def delete_what_sqlite_has(path: Path) -> None:
    for each in path.parent.glob(f"{path.name}*"):
        if each.is_file():
            each.unlink()


def delete_everything(path: Path) -> None:
    delete_what_sqlite_has(path)
    shutil.rmtree(path.with_name(f"{path.name}.d"))


@pytest.mark.parametrize("delete", [delete_the_file, delete_what_sqlite_has, delete_everything])
def test_a_file_deleted_under_a_worker(delete, jobs, start_work, path, wait_until, caplog) -> None:
    """Enqueuer and worker tell that the file is gone, and go on with a new one."""
    work = start_work("--processes", "2")
    old = jobs.put("pid")
    jobs.ended(old)
    for _ in range(40):  # the log is to have every page of the file
        jobs.put("add", {"a": "x" * 2000}, delay=3600)
    before = {worker.pid for worker in jobs.workers()}
    delete(path)
    new = [jobs.put("pid") for _ in range(20)]
    assert f"{path} was deleted or replaced" in caplog.text
    assert {jobs.ended(id).state for id in new} == {"succeeded"}
    assert jobs.queue.find_job(old) is None
    wait_until(lambda: f"{path} was deleted or replaced" in work.text)
    wait_until(lambda: len({worker.pid for worker in jobs.workers()} - before) == 2)
    assert not any(worker.dead() for worker in jobs.workers())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "Traceback" not in work.text
    assert work.stop() == 0
    assert verdict(jobs) == "ok"


def test_a_file_deleted_under_a_job(jobs, start_work, path, tmp_path, wait_until) -> None:
    """A worker whose job is gone with the file says so and makes room for another worker."""
    work = start_work("--processes", "1")
    old = jobs.put("hold", {"folder": str(tmp_path)})
    jobs.reached(old, "running")
    wait_until((tmp_path / "notes").exists)
    delete_what_sqlite_has(path)
    new = jobs.put("pid")
    (tmp_path / "go").touch()
    assert jobs.ended(new).state == "succeeded"
    assert "the job is not this worker's any more" in work.text
    assert jobs.queue.find_job(old) is None
    assert work.stop() == 0


def test_a_folder_deleted_under_a_worker(jobs, start_work, path, tmp_path, wait_until) -> None:
    """Without its locks a worker ends its job, leaves, and another one takes its place."""
    work = start_work("--processes", "1")
    running = jobs.put("hold", {"folder": str(tmp_path)})
    jobs.reached(running, "running")
    wait_until((tmp_path / "notes").exists)
    folder = path.with_name(f"{path.name}.d")
    shutil.rmtree(folder)
    waiting = jobs.put("pid")
    (tmp_path / "go").touch()
    statuses = [jobs.ended(id) for id in (running, waiting)]
    assert [(status.state, status.attempt) for status in statuses] == [("succeeded", 1)] * 2
    assert statuses[0].result != statuses[1].result
    assert jobs.row(running)["kills"] == 0
    assert folder.is_dir()
    assert work.stop() == 0
    assert verdict(jobs) == "ok"


def test_a_folder_deleted_under_an_enqueuer(queue, message, path, monkeypatch) -> None:
    """Puts go on without the folder of locks, which comes back with the next checkpoint."""
    queue.put(message())
    shutil.rmtree(path.with_name(f"{path.name}.d"))
    assert queue.put(message()) is True
    monkeypatch.setattr("dispatcher_local_queue.database.PAGES_BETWEEN", 1)
    assert queue.put(message()) is True
    assert path.with_name(f"{path.name}.d").is_dir()


# The disk is another machine's


def test_a_queue_on_a_network(queue, message, path, tmp_path, monkeypatch) -> None:
    """On a network file system a queue is refused before anything is made there."""
    table = tmp_path / "mountinfo"
    table.write_text(f"40 25 0:40 / {path.parent} rw - nfs4 server:/export rw\n")
    check = partial(check_file_system, mounts=table)
    monkeypatch.setattr("dispatcher_local_queue.database.check_file_system", check)
    with pytest.raises(QueueError, match=r"network file system \(nfs4\).*DISPATCHER_QUEUE_URL"):
        queue.put(message())
    assert list(tmp_path.iterdir()) == [table]
