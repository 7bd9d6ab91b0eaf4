"""Many processes on one file: nobody is refused, nobody starves, nothing is done twice."""

import json
import subprocess
from collections import Counter
from statistics import median, quantiles

from dispatcher_local_queue.database import SCHEMA_VERSION

ENQUEUE = """
import json, sys, time
from dispatcher_core.names import new_id
from dispatcher_core.wire import JobMessage
from dispatcher_local_queue import SQLiteQueue

queue = SQLiteQueue(sys.argv[1])
assert queue.find_job("nothing") is None
print("here", flush=True)
sys.stdin.readline()
ids, times, errors = [], [], []
until = time.monotonic() + float(sys.argv[2])
while time.monotonic() < until:
    job = JobMessage(id=new_id(), job="add", payload={"text": "x" * 200}, queue="default",
                     delay=0.0, priority=0, trace=None)
    started = time.perf_counter()
    try:
        assert queue.put(job)
        ids.append(job.id)
    except Exception as error:
        errors.append(repr(error))
    times.append(time.perf_counter() - started)
json.dump({"ids": ids, "times": times, "errors": errors}, sys.stdout)
"""

CLAIM = """
import json, os, sys
from pathlib import Path
from dispatcher_local_queue.claims import Claims
from dispatcher_local_queue.database import Database
from dispatcher_local_queue.endings import Ending
from dispatcher_local_queue.registry import Registry
from dispatcher_local_queue.wakeup import Bells

database, name, over = Database(Path(sys.argv[1]), durable=False), sys.argv[2], Path(sys.argv[3])
Registry(database).enter(name, "boss", os.getpid())
claims = Claims(database, name, Bells(database.files))
print("here", flush=True)
sys.stdin.readline()
ids, errors, claim = [], [], None
while claim is not None or claims.work_waits(["default"]) or not over.exists():
    try:
        if claim is None:
            claim = claims.claim(["default"])
        else:
            ending = Ending(state="succeeded")
            ids.append(claim.id)
            claim = claims.end_and_claim(claim, ending, ["default"])[1]
    except Exception as error:
        errors.append(repr(error))
json.dump({"ids": ids, "errors": errors}, sys.stdout)
"""

OPEN = """
import sys
from dispatcher_core import QueueError, QueueUnavailable
from dispatcher_local_queue import SQLiteQueue

queues = [SQLiteQueue(path) for path in sys.argv[1:]]
print("here", flush=True)
for queue in queues:
    sys.stdin.readline()
    try:
        print(queue.find_job("nothing"), flush=True)
    except QueueUnavailable as error:
        print("unavailable:", error, flush=True)
    except QueueError as error:
        print("refused:", error, flush=True)
"""


def tell(process: subprocess.Popen[str]) -> None:
    process.stdin.write("go\n")
    process.stdin.flush()


def listen(process: subprocess.Popen[str]) -> str:
    return str(process.stdout.readline())


def await_all(processes: list[subprocess.Popen[str]]) -> None:
    """Wait until each process has come up, then let them go."""
    for process in processes:
        assert listen(process) == "here\n"
    for process in processes:
        tell(process)


def test_eight_put_and_eight_claim(script, path, tmp_path, queue, database) -> None:
    """No caller sees a lock, each job is claimed by one worker, and no put waits for long."""
    assert queue.find_job("nothing") is None
    over = tmp_path / "over"
    enqueuers = [script(ENQUEUE, path, 3.0) for _ in range(8)]
    claimers = [script(CLAIM, path, f"worker-{number}", over) for number in range(8)]
    await_all(enqueuers + claimers)
    put = [json.loads(process.communicate(timeout=60)[0]) for process in enqueuers]
    over.touch()
    claimed = [json.loads(process.communicate(timeout=60)[0]) for process in claimers]
    assert [error for each in put + claimed for error in each["errors"]] == []
    kept = [id for each in put for id in each["ids"]]
    done = [id for each in claimed for id in each["ids"]]
    assert len(kept) > 100
    assert max(Counter(done).values()) == 1
    assert set(done) == set(kept)
    with database.read() as connection:
        rows = connection.execute("SELECT state, attempt, count(*) FROM job GROUP BY 1, 2")
        assert rows.fetchall() == [("succeeded", 1, len(kept))]
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    report(put, claimed)


def report(put: list[dict], claimed: list[dict]) -> None:
    """Print how long a put took, and check it; the goal is p99 within 10 ms or 20 medians."""
    times = [time for each in put for time in each["times"]]
    middle, late = median(times), quantiles(times, n=100)[98]
    shares = sorted(len(each["ids"]) for each in put)
    print(
        f"{len(times)} puts of 8 processes beside 8 that claim: median {middle * 1e3:.2f} ms,"
        f" p99 {late * 1e3:.2f} ms, longest {max(times) * 1e3:.0f} ms;"
        f" by process {shares[0]} to {shares[-1]} puts"
    )
    # Far wider than the goal: other programs share the machine with this test.
    assert late <= max(0.25, 100 * middle)
    assert shares[0] * 10 >= shares[-1]
    assert sum(1 for each in claimed if each["ids"]) >= 2


def test_ten_open_a_new_file(script, tmp_path) -> None:
    """Ten processes that find no file at the same moment make one, five times over."""
    paths = [tmp_path / f"{number}.sqlite3" for number in range(5)]
    processes = [script(OPEN, *paths) for _ in range(10)]
    for process in processes:
        assert listen(process) == "here\n"
    for path in paths:
        assert not path.exists()
        for process in processes:
            tell(process)
        assert [listen(process) for process in processes] == ["None\n"] * 10
        assert path.exists()
    assert [process.wait(20) for process in processes] == [0] * 10


def test_ten_open_a_newer_file(script, path, database) -> None:
    """Ten processes that find a file of a later version refuse it clearly, and leave it alone."""
    with database.write() as connection:
        connection.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    database.close()
    before = path.read_bytes()
    processes = [script(OPEN, path) for _ in range(10)]
    await_all(processes)
    said = {listen(process) for process in processes}
    assert [process.wait(20) for process in processes] == [0] * 10
    assert said == {
        f"refused: {path} has the schema {SCHEMA_VERSION + 1}, newer than this program's"
        f" {SCHEMA_VERSION}: update dispatcher-local-queue here\n"
    }
    assert path.read_bytes() == before


def test_a_creator_that_is_killed(script, path, database) -> None:
    """Whoever is killed while it makes the file leaves nothing that keeps the others out."""
    for _ in range(5):
        creators = [script(OPEN, path) for _ in range(2)]
        await_all(creators)
        for creator in creators:
            creator.kill()
            creator.wait()
        with database.read() as connection:
            assert connection.execute("SELECT count(*) FROM job").fetchone() == (0,)
        database.close()
        path.unlink()
