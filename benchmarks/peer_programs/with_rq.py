"""The jobs that RQ's workers run, and the settings that they read."""

import os

from redis import Redis
from rq import Queue

REDIS_URL = os.environ["BENCHMARK_BROKER"]
queue = Queue(connection=Redis.from_url(REDIS_URL))


def noop(number: int, text: str) -> None:
    """Does nothing."""


def put(number: int, text: str) -> None:
    """Put one job."""
    queue.enqueue(noop, number, text)
