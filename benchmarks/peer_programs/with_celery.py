"""The application that Celery's worker runs."""

import os

from celery import Celery

app = Celery("benchmark", broker=os.environ["BENCHMARK_BROKER"])


@app.task(ignore_result=True)
def noop(number: int, text: str) -> None:
    """Does nothing."""


def put(number: int, text: str) -> None:
    """Put one job."""
    noop.delay(number, text)
