"""The application that Huey's consumer runs."""

import os

from huey import SqliteHuey

# All else as it comes, hence synchronous=FULL for the workers' commits as well. The timeout (5
# seconds by default) is raised since one worker can keep the lock from the other for longer.
huey = SqliteHuey(filename=os.environ["BENCHMARK_BROKER"], results=False, timeout=60)


@huey.task()
def noop(number: int, text: str) -> None:
    """Does nothing."""


def put(number: int, text: str) -> None:
    """Put one job."""
    noop(number, text)
