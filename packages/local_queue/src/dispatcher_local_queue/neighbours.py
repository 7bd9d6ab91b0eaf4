"""The other supervisors of a queue's file: what they leave behind when they die."""

from collections.abc import Iterator

from .child import end_group
from .files import QueueFiles
from .liveness import birth_of, dead
from .registry import KnownWorker, Recovered, Registry

__all__ = ["Neighbours"]


class Neighbours:
    """All supervisors but one, and their workers.

    Args:
        registry: the workers of the queue.
        files: where their locks lie.
        supervisor_id: the one that asks.
    """

    def __init__(self, registry: Registry, files: QueueFiles, supervisor_id: str) -> None:
        self._registry = registry
        self._files = files
        self._id = supervisor_id

    def clean_up(self) -> Iterator[tuple[KnownWorker, list[Recovered]]]:
        """Put back what their dead workers ran, then remove the locks of all that are dead.

        Yields:
            Each worker that was found dead, and what it ran.
        """
        for worker in self._registry.workers():
            if worker.supervisor != self._id:
                yield from self._recovered(worker)
        self._registry.remove_dead_locks()
        for path in self._files.supervisor_locks():
            with dead(path) as is_dead:
                if is_dead:
                    path.unlink(missing_ok=True)

    def _recovered(self, worker: KnownWorker) -> Iterator[tuple[KnownWorker, list[Recovered]]]:
        with worker.found_dead() as is_dead:
            if is_dead:
                if worker.gone() and not birth_of(worker.pid):  # nobody else has its pid
                    end_group(worker.pid)
                yield worker, self._registry.recover(worker.id)
