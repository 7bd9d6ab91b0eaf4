"""Whether work goes on: the queue opens, and a supervisor of this host is alive."""

from dataclasses import dataclass

from dispatcher_core.errors import QueueError

from .database import Database
from .liveness import dead
from .registry import Registry

__all__ = ["Health", "check_health"]


@dataclass(frozen=True, slots=True)
class Health:
    """What a look at the queue found.

    Attributes:
        supervisors: how many are alive here.
        workers: how many worker processes are alive here.
        error: what is wrong, None for nothing.
    """

    supervisors: int
    workers: int
    error: str | None


def check_health(database: Database) -> Health:
    """Look whether the queue opens and a supervisor is alive. Changes nothing."""
    path = database.files.database
    try:
        if not path.exists():
            return Health(0, 0, f"there is no queue at {path}")
        workers = sum(not worker.dead() for worker in Registry(database).workers())
    except QueueError as error:
        return Health(0, 0, str(error))
    except OSError as error:
        return Health(0, 0, f"the queue's file {path} cannot be looked at: {error.strerror}")
    supervisors = 0
    for lock in database.files.supervisor_locks():
        with dead(lock) as is_dead:
            supervisors += not is_dead
    problem = None if supervisors else "no supervisor is alive: start `dispatcher work`"
    return Health(supervisors, workers, problem)
