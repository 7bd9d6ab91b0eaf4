"""The limit on how many jobs may wait: what it refuses, what it never refuses, what it costs."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import pytest

from dispatcher_core import Config, JobMessage, QueueFull, QueueUnavailable
from dispatcher_core.aliases import AliasRegistry
from dispatcher_core.batch_wire import decode_batch
from dispatcher_core.testing import MemoryQueue
from dispatcher_local_queue import SQLiteQueue
from dispatcher_wsgi_receiver import create_app
from dispatcher_wsgi_receiver.capacity import Capacity

FORK_WHILE_IT_COUNTS = """
import os, signal, threading, warnings
from dispatcher_core import JobMessage
from dispatcher_core.testing import MemoryQueue
from dispatcher_wsgi_receiver.capacity import Capacity

warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads, which this is about
counting, go_on = threading.Event(), threading.Event()
parent = os.getpid()

class SlowQueue(MemoryQueue):
    def waiting(self, limit):
        if os.getpid() == parent:
            counting.set()
            assert go_on.wait(20)
        return 0

def put(id):
    return capacity.put(JobMessage(id=id, job="add", payload={}, queue="default", delay=0.0,
                                   priority=0, trace=None))

capacity = Capacity(SlowQueue(), 5)
thread = threading.Thread(target=put, args=["of the parent"])
thread.start()
assert counting.wait(20)
pid = os.fork()
if pid == 0:
    signal.alarm(20)
    os._exit(0 if put("of the child") else 1)
status = os.waitpid(pid, 0)[1]
go_on.set()
thread.join()
print(status, put("of the parent, later"))
"""


class CountedQueue(MemoryQueue):
    """A queue in memory that knows how often its jobs were counted."""

    counts = 0

    def waiting(self, limit):
        """How many jobs wait."""
        self.counts += 1
        return super().waiting(limit)


class LockedQueue(MemoryQueue):
    """A queue that cannot be read for now."""

    def waiting(self, limit):
        """Fail."""
        raise QueueUnavailable("/data/q.sqlite3 is locked")


@dataclass(slots=True)
class Clock:
    """A clock that goes on by so many seconds whenever it is looked at."""

    step: float = 0.0
    now: float = 100.0

    def __call__(self):
        """The time in seconds."""
        self.now += self.step
        return self.now


def send_mail(to: str) -> None:
    """A handler."""


def message(id: str, payload: dict | None = None) -> JobMessage:
    """A job as a receiver decodes it."""
    return JobMessage(
        id=id,
        job="send-mail",
        payload=payload or {"to": "ann"},
        queue="default",
        delay=0.0,
        priority=0,
        trace=None,
    )


def batch_body(*ids: str, to: str = "ann", **members: object) -> bytes:
    """The body that dispatches these jobs together."""
    jobs = [{"id": id, "job": "send-mail", "payload": {"to": to}} for id in ids]
    return json.dumps({"type": "dispatch.batch", "jobs": jobs, **members}).encode()


@pytest.fixture
def limited(make_client, queue):
    """Makes a client of a receiver that lets so many jobs wait."""

    def make(limit, **options):
        return make_client(options.pop("queue", queue), max_queued=limit, **options)

    return make


@pytest.fixture
def dispatch():
    """Dispatches a job, with a client."""

    def send(client, id, to="ann", **members):
        return client.dispatch("send-mail", id, payload={"to": to}, **members)

    return send


@pytest.fixture
def dispatch_batch():
    """Dispatches a batch, with a client."""

    def send(client, id, *jobs, **members):
        body = batch_body(*jobs, **members)
        return client.call("POST", "/dispatch/batch", body, client.headers(id, body))

    return send


def test_what_does_not_fit_is_refused_until_there_is_room(limited, dispatch, queue):
    """Queued and scheduled jobs fill it; a further one is 429 with a time to come back."""
    client = limited(2)
    assert dispatch(client, "a").status == 202
    assert dispatch(client, "b", delay=60).status == 202
    reply = dispatch(client, "c")
    assert reply.refusal == (429, "queue-full")
    assert int(reply.headers["retry-after"]) > 0
    assert queue.find_job("c") is None
    queue.cancel_job("a")
    assert dispatch(client, "c").status == 202
    assert dispatch(client, "d").status == 429


def test_a_retry_is_known_while_the_queue_is_full(limited, dispatch):
    """What was accepted is 200, its id with something else in it 422, as without a limit."""
    client = limited(1)
    assert dispatch(client, "a").status == 202
    assert dispatch(client, "b").status == 429
    for _ in range(3):
        reply = dispatch(client, "a")
        assert (reply.status, reply.json["duplicate"]) == (200, True)
        assert dispatch(client, "a", to="bob").refusal == (422, "id-reused")
    assert dispatch(client, "b").status == 429


def test_the_id_of_a_batch_is_known_while_the_queue_is_full(limited, dispatch, dispatch_batch):
    """A job under the id of a batch, or the other way round, is 422, not 429."""
    client = limited(2)
    assert dispatch(client, "a").status == 202
    assert dispatch_batch(client, "batch", "b").status == 202
    assert dispatch(client, "batch").refusal == (422, "id-reused")
    assert dispatch_batch(client, "a", "c").refusal == (422, "id-reused")
    assert dispatch_batch(client, "new", "c").refusal == (429, "queue-full")


def test_a_job_that_cannot_run_is_told_so_first(limited, dispatch, dispatch_batch):
    """To come back later would not help: the handler is looked up before the room."""
    client = limited(1)
    assert dispatch(client, "a").status == 202
    assert client.dispatch("make-tea", "b").refusal == (422, "unknown-job")
    assert client.dispatch("send-mail", "b").refusal == (422, "invalid-payload")


def test_a_batch_fits_as_a_whole_or_not_at_all(limited, dispatch, dispatch_batch, queue):
    """Of one that does not fit nothing is kept; a smaller one is taken."""
    client = limited(4)
    assert dispatch(client, "a").status == 202
    reply = dispatch_batch(client, "batch", "b", "c", "d", "e")
    assert reply.refusal == (429, "queue-full")
    assert int(reply.headers["retry-after"]) > 0
    assert queue.find_batch("batch") is None
    assert [job.id for job in queue.jobs] == ["a"]
    assert dispatch_batch(client, "batch", "b", "c", "d").status == 202


@pytest.mark.parametrize("should_batch", [True, False])
def test_a_batch_is_known_while_the_queue_is_full(limited, dispatch_batch, should_batch):
    """Sent again it is 200 with the ids that are kept; with something else in it, 422."""
    client = limited(2)
    assert dispatch_batch(client, "batch", "a", "b", should_batch=should_batch).status == 202
    assert dispatch_batch(client, "other", "c").status == 429
    reply = dispatch_batch(client, "batch", "a", "b", should_batch=should_batch)
    assert (reply.status, reply.json["ids"]) == (200, ["a", "b"])
    reply = dispatch_batch(client, "batch", "a", to="bob", should_batch=should_batch)
    assert reply.refusal == (422, "id-reused")


def test_a_batch_larger_than_the_limit_is_told_so(limited, dispatch_batch, queue):
    """It could wait for ever for its turn: it is 413, and the limit is named."""
    client = limited(3)
    reply = dispatch_batch(client, "batch", "a", "b", "c", "d")
    assert reply.refusal == (413, "too-large")
    assert "4 jobs, and at most 3 may wait here" in reply.json["detail"]
    assert "retry-after" not in reply.headers
    assert queue.jobs == []
    assert dispatch_batch(client, "batch", "a", "b", "c").status == 202


def test_a_batch_is_known_under_a_limit_that_is_smaller_now(
    limited, make_client, dispatch_batch, queue
):
    """A deploy with a lower limit refuses nothing that was accepted before it."""
    assert dispatch_batch(make_client(queue), "batch", "a", "b", "c").status == 202
    client = limited(2)
    assert dispatch_batch(client, "batch", "a", "b", "c").status == 200
    assert dispatch_batch(client, "other", "d").status == 429
    assert dispatch_batch(client, "empty").status == 202


def test_callbacks_wait_once_they_are_due(limited, dispatch, dispatch_batch, queue):
    """A callback takes no room from jobs before, and is never held up itself."""
    client = limited(2)
    callback = {"id": "t", "job": "send-mail", "payload": {"to": "ann"}}
    assert dispatch_batch(client, "batch", "a", then=callback).status == 202
    assert dispatch(client, "b").status == 202
    assert dispatch_batch(client, "empty", then={**callback, "id": "u"}).status == 202
    for id in ("a", "b"):
        queue.set_status(replace(queue.find_job(id), state="succeeded"))
    assert queue.waiting(9) == 2
    assert dispatch(client, "c").status == 429


def test_without_a_limit_nothing_is_counted(make_client, dispatch):
    """The setting costs nothing where it is not set."""
    queue = CountedQueue()
    client = make_client(queue)
    assert [dispatch(client, f"job-{number}").status for number in range(5)] == [202] * 5
    assert queue.counts == 0


def test_a_dispatch_costs_no_count(limited, dispatch):
    """An eighth of the room is spent between two counts."""
    queue = CountedQueue()
    client = limited(800, queue=queue)
    for number in range(99):
        assert dispatch(client, f"job-{number}").status == 202
    # A slow machine may need some seconds, each of which ends with a count.
    assert queue.counts < 20


@pytest.mark.parametrize("limit", [1, 7, 8, 9, 100])
def test_the_limit_is_exact_in_one_process(limit):
    """The last job that fits is taken, the next one refused."""
    queue = MemoryQueue()
    capacity = Capacity(queue, limit, Clock(step=0.001))
    for number in range(limit):
        assert capacity.put(message(f"job-{number}")) is True
    with pytest.raises(QueueFull, match=f"at most {limit} jobs may wait"):
        capacity.put(message("one too many"))
    queue.cancel_job("job-0")
    assert capacity.put(message("one instead")) is True


def test_what_others_put_is_seen_after_an_eighth():
    """Before more than that is spent of the room that was counted, it is counted again."""
    queue, clock = CountedQueue(), Clock()
    capacity = Capacity(queue, 80, clock)
    for number in range(10):
        capacity.put(message(f"job-{number}"))
    for number in range(70):
        queue.put(message(f"other-{number}"))
    clock.now += 0.5
    with pytest.raises(QueueFull):
        capacity.put(message("one too many"))
    assert queue.counts == 2


def test_what_others_put_is_seen_within_a_second():
    """A count is good for a second at most."""
    queue, clock = CountedQueue(), Clock()
    capacity = Capacity(queue, 80, clock)
    capacity.put(message("a"))
    for number in range(79):
        queue.put(message(f"other-{number}"))
    clock.now += 0.5
    assert capacity.put(message("within the eighth")) is True
    clock.now += 0.5
    with pytest.raises(QueueFull):
        capacity.put(message("later"))
    assert queue.counts == 2


def test_who_refuses_everything_does_not_count_each_time():
    """With a large limit a full queue is counted now and then, and room is seen soon."""
    queue, clock = CountedQueue(), Clock()
    limit = 1000
    for number in range(limit):
        queue.put(message(f"other-{number}"))
    capacity = Capacity(queue, limit, clock)
    for number in range(50):
        with pytest.raises(QueueFull):
            capacity.put(message(f"job-{number}"))
    assert queue.counts == 1
    queue.cancel_job("other-0")
    clock.now += limit * 1e-6
    assert capacity.put(message("job-0")) is True


def test_a_put_that_fails_gives_its_room_back():
    """Refusals, duplicates and errors of the queue use nothing up."""
    queue = MemoryQueue(max_jobs=1)  # it refuses by itself what comes after
    capacity = Capacity(queue, 3)
    assert capacity.put(message("a")) is True
    for _ in range(10):
        with pytest.raises(QueueFull):
            capacity.put(message("b"))
        assert capacity.put(message("a")) is False
    queue._max_jobs = None
    assert capacity.put(message("b")) is True
    assert capacity.put_batch(decode_batch("batch", batch_body("c"))) is None


def test_a_queue_that_is_full_by_itself(limited, dispatch, dispatch_batch):
    """What a queue refuses of its own is 429 too, also below the limit of the receiver."""
    client = limited(100, queue=MemoryQueue(max_jobs=1))
    assert dispatch(client, "a").status == 202
    assert dispatch(client, "b").refusal == (429, "queue-full")
    assert dispatch_batch(client, "batch", "b").refusal == (429, "queue-full")
    assert dispatch(client, "a").status == 200


def test_a_queue_that_cannot_be_counted_is_unavailable(limited, dispatch):
    """Where it cannot be told whether there is room, nothing is taken: 503."""
    reply = dispatch(limited(5, queue=LockedQueue()), "a")
    assert reply.refusal == (503, "unavailable")
    assert b"/data" not in reply.body


def test_threads_together_keep_to_the_limit(tmp_path):
    """However many put at once, no more than the limit is accepted, nor is room lost."""
    queue = SQLiteQueue(tmp_path / "queue.sqlite3")
    capacity = Capacity(queue, 50, Clock(step=0.001))

    def put(number: int) -> bool:
        try:
            return capacity.put(message(f"job-{number}"))
        except QueueFull:
            return False

    with ThreadPoolExecutor(8) as threads:
        taken = list(threads.map(put, range(200)))
    assert 40 <= sum(taken) <= 50
    assert queue.waiting(1000) == sum(taken)
    # Some may have been refused since another thread's put was under way.
    for number in range(sum(taken), 50):
        assert capacity.put(message(f"later-{number}")) is True
    with pytest.raises(QueueFull):
        capacity.put(message("one too many"))
    queue.close()


def test_a_fork_while_another_thread_counts():
    """The fork does not wait for a lock that nobody there holds."""
    program = [sys.executable, "-c", FORK_WHILE_IT_COUNTS]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, env=os.environ)
    assert (done.stdout, done.stderr) == ("0 True\n", "")


def test_the_limit_comes_from_the_configuration(secret, client_of, dispatch):
    """``max_queued`` of the configuration is the receiver's."""
    config = Config(is_backend=True, secret=secret, max_queued=1)
    registry = AliasRegistry({"send-mail": send_mail})
    app = create_app(config, queue=MemoryQueue(), registry=registry)
    client = client_of(app, now=int(time.time()))
    assert [dispatch(client, id).status for id in ("a", "b", "a")] == [202, 429, 200]
