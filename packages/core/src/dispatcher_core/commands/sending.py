"""What the commands that send have in common."""

import argparse
import logging
from collections.abc import Callable

from ..dispatcher import Dispatcher
from ..errors import NotFound
from ..status import BatchStatus, JobStatus

__all__ = [
    "add_backend",
    "add_id",
    "add_json",
    "dispatcher_of",
    "job_or_batch",
]


def add_backend(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--backend``."""
    parser.add_argument("--backend", metavar="NAME", help="a named backend of the settings")


def add_id(parser: argparse.ArgumentParser) -> None:
    """Add the argument ``ID``."""
    parser.add_argument("id", metavar="ID", help="of a job, or else of a batch")


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--json``."""
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def dispatcher_of(arguments: argparse.Namespace) -> Dispatcher:
    """The dispatcher that the settings and ``--backend`` name.

    Raises:
        ConfigError: a setting is wrong.
    """
    # The command itself tells what failed; a log without a handler would tell it once more.
    logging.getLogger("dispatcher").addHandler(logging.NullHandler())
    return Dispatcher.from_env(arguments.backend)


def job_or_batch(
    id: str, job: Callable[[str], JobStatus], batch: Callable[[str], BatchStatus]
) -> JobStatus | BatchStatus:
    """What is answered for the job of this id, or else for the batch.

    Raises:
        NotFound: the backend knows neither.
        DeliveryError: it was not reached, or it refused.
    """
    for ask in (job, batch):
        try:
            return ask(id)
        except NotFound:
            continue
    raise NotFound(f"the backend knows no job and no batch by the id {id}")
