"""Wakes sleeping workers: one named pipe for each queue, a byte for each nudge.

A nudge only shortens a wait. A lost one, a full pipe or no pipe at all costs at most the
time that a worker sleeps anyway.
"""

import os
import select
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress

from .files import QueueFiles

__all__ = ["MOST_KEPT", "Bells", "Sleeper"]

MOST_KEPT = 64
"""How many pipes a process keeps open: names of queues may be many, descriptors are few."""

_POLL_WITHOUT_BELLS = 0.1


class Bells:
    """The named pipes of a queue's file, opened when they are first needed.

    Everybody opens them for reading and writing: then nobody gets SIGPIPE, an end of file,
    or a refusal because the other side is absent.
    """

    def __init__(self, files: QueueFiles) -> None:
        self._files = files
        self._pipes: dict[str, int] = {}

    def ring(self, queue: str) -> None:
        """Wake one worker that sleeps on the queue."""
        kept = self.pipe(queue)
        pipe = self._open(queue) if kept is None else kept
        if pipe is None:
            return
        try:
            os.write(pipe, b"\0")
        except BlockingIOError:
            pass  # full of nudges already
        finally:
            if kept is None:
                os.close(pipe)

    def silence(self, queues: Iterable[str]) -> None:
        """Take back the nudges for these queues."""
        for queue in queues:
            pipe = self.pipe(queue)
            if pipe is not None:
                with suppress(BlockingIOError):  # another worker was faster
                    os.read(pipe, 65536)

    def pipe(self, queue: str) -> int | None:
        """The descriptor of the queue's pipe, None where there can be none, or no more."""
        if queue not in self._pipes:
            if len(self._pipes) >= MOST_KEPT:
                return None
            descriptor = self._open(queue)
            if descriptor is None:
                return None
            # Two threads may come here at once: both use the descriptor that was first.
            if self._pipes.setdefault(queue, descriptor) != descriptor:
                os.close(descriptor)
        return self._pipes[queue]

    def _open(self, queue: str) -> int | None:
        path = self._files.bell(queue)
        try:
            with suppress(FileExistsError):
                os.mkfifo(path, 0o600)
            descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        return None

    def close(self) -> None:
        """Close the pipes."""
        while self._pipes:
            os.close(self._pipes.popitem()[1])


class Sleeper:
    """Sleeps until a nudge comes, or the end of a pipe that the supervisor holds.

    Args:
        bells: the pipes of the queues.
        leash: a descriptor whose end of file says that it is time to go.
    """

    def __init__(self, bells: Bells, leash: int) -> None:
        self._bells = bells
        self._leash = leash
        self._poll = select.epoll() if hasattr(select, "epoll") else None
        if self._poll is not None:
            self._poll.register(leash, select.EPOLLIN)
        self._known: set[str] = set()
        self._deaf = self._poll is None

    def sleep(self, queues: Iterable[str], seconds: float) -> None:
        """Sleep until one of the queues is nudged, the leash ends, or the time is over."""
        self._listen(queues)
        limit = min(seconds, _POLL_WITHOUT_BELLS) if self._deaf else seconds
        self._ready(max(0.0, limit))
        self._bells.silence(self._known)

    def released(self) -> bool:
        """Whether the leash has ended."""
        return self._leash in self._ready(0.0)

    def _ready(self, seconds: float) -> Sequence[int]:
        """The descriptors that can be read, as soon as one can or the time is over."""
        if self._poll is None:
            return select.select([self._leash], [], [], seconds)[0]
        return [descriptor for descriptor, _ in self._poll.poll(seconds)]

    def _listen(self, queues: Iterable[str]) -> None:
        if self._poll is None:
            return
        for queue in set(queues) - self._known:
            pipe = self._bells.pipe(queue)
            if pipe is None:
                self._deaf = True
            else:
                # EPOLLEXCLUSIVE: one nudge wakes one worker, not all of them.
                self._poll.register(pipe, select.EPOLLIN | select.EPOLLEXCLUSIVE)
                self._known.add(queue)
