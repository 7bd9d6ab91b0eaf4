"""What is asked of the queue, and what must become of it; all of it follows from a seed."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from dispatcher_core.wire import JobMessage

__all__ = ["BACKOFF", "BROKEN_TRIES", "FLAKY_TRIES", "Plan", "make_plan"]

FLAKY_TRIES = 4
BROKEN_TRIES = 3
BACKOFF = (0.1, 0.2, 0.4)  # seconds before the second, third and fourth try
QUEUES = ("default", "mail", "reports")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One job, and its end.

    Attributes:
        id: the job's id.
        job: its name.
        payload: its arguments.
        queue: its queue.
        priority: its priority.
        delay: seconds before it may start.
        cancel: when it is to be cancelled: ``"waiting"`` as soon as it is accepted,
            ``"running"`` a moment later.
        state: its final state.
        attempt: the tries that it uses up.
        result: what it returns in the end.
        error: the code of its error in the end.
    """

    id: str
    job: str
    payload: dict[str, object]
    queue: str
    priority: int
    delay: float = 0.0
    cancel: str | None = None
    state: str = "succeeded"
    attempt: int = 1
    result: object = None
    error: str | None = None

    def message(self) -> JobMessage:
        """The job as it comes over the wire."""
        return JobMessage(
            id=self.id,
            job=self.job,
            payload=self.payload,
            queue=self.queue,
            delay=self.delay,
            priority=self.priority,
            trace=None,
        )


def make_plan(seed: int, enqueuer: int, index: int) -> Plan:
    """The plan of the job that an enqueuing program puts as its so manieth."""
    random = Random(f"{seed}/{enqueuer}/{index}")
    (kind,) = random.choices(list(_SHARES), weights=_SHARES.values())
    return Plan(
        id=f"{enqueuer}-{index}",
        queue=random.choice(QUEUES),
        priority=random.choice((-100, 0, 0, 0, 50)),
        **kind(random),
    )


def _quick(random: Random) -> dict[str, object]:
    number = random.randrange(1_000_000)
    return {"job": "square", "payload": {"number": number}, "result": number * number}


def _delayed(random: Random) -> dict[str, object]:
    return {**_quick(random), "delay": round(random.uniform(0.2, 6.0), 2)}


def _long(random: Random) -> dict[str, object]:
    seconds = round(random.uniform(0.5, 2.0), 2)
    return {"job": "take-long", "payload": {"seconds": seconds}, "result": seconds}


def _flaky(random: Random) -> dict[str, object]:
    failures = random.randrange(1, FLAKY_TRIES)
    return {
        "job": "fail-at-first",
        "payload": {"failures": failures},
        "result": failures,
        "attempt": failures + 1,
    }


def _broken(random: Random) -> dict[str, object]:
    return {
        "job": "fail-always",
        "payload": {"number": random.randrange(100)},
        "state": "failed",
        "attempt": BROKEN_TRIES,
        "error": "exception",
    }


def _refused(random: Random) -> dict[str, object]:
    return {
        "job": "fail-for-good",
        "payload": {"number": random.randrange(100)},
        "state": "failed",
        "error": "exception",
    }


def _withdrawn(random: Random) -> dict[str, object]:
    return {**_quick(random), "delay": 600.0, "cancel": "waiting", **_CANCELLED}


def _stopped(_: Random) -> dict[str, object]:
    return {"job": "stop-when-asked", "payload": {}, "cancel": "running", **_CANCELLED}


_CANCELLED: dict[str, object] = {"state": "cancelled", "attempt": 0, "result": None}
_SHARES: dict[Callable[[Random], dict[str, object]], int] = {
    _quick: 80,
    _delayed: 5,
    _flaky: 4,
    _long: 3,
    _broken: 3,
    _refused: 2,
    _withdrawn: 2,
    _stopped: 1,
}
