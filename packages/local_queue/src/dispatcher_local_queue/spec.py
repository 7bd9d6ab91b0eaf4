"""What a supervisor and its worker processes are told."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from dispatcher_core.config import Alias

from .logs import LogFormat

__all__ = ["WorkSettings", "WorkerSpec"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkSettings:
    """What all workers of one supervisor share.

    Attributes:
        database: the queue's file.
        queues: the queues to serve, in this order; empty for every queue.
        app_dir: the folder that comes first on ``sys.path``.
        modules: modules whose ``@job``s may run.
        aliases: more job names, and what they call.
        lifespan: a context manager entered once by each process, as ``module:callable``.
        around_job: a context manager around each attempt, as ``module:callable``.
        burst: whether a process ends as soon as nothing waits.
        max_jobs: a process ends after so many jobs.
        max_time: a process ends after so many seconds.
        max_memory: a process ends after a job that left it with more MiB of resident memory.
        retention: seconds for which finished jobs are kept.
        log_format: how lines are logged.
        log_level: which lines are logged.
    """

    database: str
    queues: tuple[str, ...] = ()
    app_dir: str = "."
    modules: tuple[str, ...] = ()
    aliases: Mapping[str, Alias] = field(default_factory=dict)
    lifespan: str | None = None
    around_job: str | None = None
    burst: bool = False
    max_jobs: int | None = None
    max_time: float | None = None
    max_memory: int | None = None
    retention: float = 604800.0
    log_format: LogFormat = "text"
    log_level: str = "INFO"

    @property
    def path(self) -> Path:
        """The queue's file."""
        return Path(self.database)

    @property
    def imported(self) -> tuple[str, ...]:
        """What a worker process imports of the application, in this order."""
        calls = [alias.call for alias in self.aliases.values()]
        return tuple(filter(None, (self.lifespan, self.around_job, *self.modules, *calls)))


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """What one worker process is told.

    Attributes:
        settings: what all of them share.
        worker_id: its id, never used again.
        supervisor_id: its supervisor's id.
        slot: its place in the shared memory.
        memory: the descriptor of that memory.
        leash: a descriptor whose end of file says that it is time to go.
        report: a descriptor to report on.
    """

    settings: WorkSettings
    worker_id: str
    supervisor_id: str
    slot: int
    memory: int
    leash: int
    report: int

    def to_json(self) -> str:
        """The specification as one argument of a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The specification from :meth:`to_json`."""
        members = json.loads(text)
        settings = members.pop("settings")
        settings["aliases"] = {name: _alias(each) for name, each in settings["aliases"].items()}
        settings |= {key: tuple(settings[key]) for key in ("queues", "modules")}
        return cls(settings=WorkSettings(**settings), **members)


def _alias(members: dict[str, object]) -> Alias:
    backoff = members.pop("backoff")
    return Alias(backoff=tuple(backoff) if isinstance(backoff, list) else backoff, **members)  # type: ignore[arg-type]
