"""The application that Huey's consumer runs."""

import os

from huey import SqliteHuey

# By default it leaves synchronous=FULL, in the workers as well: every job taken is synced to disk.
huey = SqliteHuey(filename=os.environ["BENCHMARK_BROKER"], results=False)


@huey.task()
def noop(number: int, text: str) -> None:
    """Does nothing."""


def put(number: int, text: str) -> None:
    """Put one job."""
    noop(number, text)
