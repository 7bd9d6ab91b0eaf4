"""Calls from many threads at once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

__all__ = ["THREADS", "in_threads"]

THREADS = 8

Answer = TypeVar("Answer")


def in_threads(call: Callable[[int], Answer]) -> list[Answer]:
    """What the call returned in each of several threads that begin together."""
    start = Barrier(THREADS)

    def run(number: int) -> Answer:
        start.wait()
        return call(number)

    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(run, range(THREADS)))
