"""The application that Dramatiq's workers run."""

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker

dramatiq.set_broker(RedisBroker(url=os.environ["BENCHMARK_BROKER"]))


@dramatiq.actor
def noop(number: int, text: str) -> None:
    """Does nothing."""


def put(number: int, text: str) -> None:
    """Put one job."""
    noop.send(number, text)
