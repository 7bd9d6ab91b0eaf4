"""What core needs of a sender, and a receiver of a queue."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from .batch_wire import BatchMessage
from .status import BatchStatus, JobStatus
from .wire import JobMessage

__all__ = ["Queue", "Request", "Response", "Sender"]


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, ready to be sent.

    Attributes:
        method: ``GET``, ``POST`` or ``DELETE``.
        url: absolute, http or https.
        headers: all that core wants sent; the sender adds what HTTP itself needs.
        body: the body, empty for none.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)  # a traceback must not show the signature
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP answer, whatever its status.

    Attributes:
        status: the HTTP status.
        headers: the header fields, their names in lower case.
        body: the body, at most 1 MiB.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class Sender(Protocol):
    """Sends one request once."""

    def send(self, request: Request, timeout: float) -> Response:
        """The answer to the request, also one that refuses.

        Redirects are answers, never followed.

        Args:
            request: what to send.
            timeout: seconds for the whole exchange.

        Raises:
            SendFailed: no answer came, or it could not be read.
        """


class Queue(Protocol):
    """Where a receiver puts jobs. Its methods may be called by many threads at once."""

    def put(self, job: JobMessage) -> bool:
        """Keep the job durably; False if this very job is known already.

        Raises:
            IdReused: its id belongs to something else.
            QueueFull: as many jobs wait as are allowed.
            QueueUnavailable: it could not be kept, for now.
        """

    def find_job(self, id: str) -> JobStatus | None:
        """What is known of a job, None for an unknown id.

        Raises:
            QueueUnavailable: the queue could not be read, for now.
        """

    def cancel_job(self, id: str) -> JobStatus | None:
        """Cancel a job that waits, or ask a running one to stop; a finished one stays.

        Raises:
            QueueUnavailable: the queue could not be written, for now.
        """

    def put_batch(self, batch: BatchMessage) -> tuple[str, ...] | None:
        """Keep a batch durably, all of it or nothing.

        A batch without jobs is finished at once. With ``should_batch`` false the jobs are
        kept singly; the id is taken all the same.

        Returns:
            None where it is new; the ids of the jobs that are kept for it, in order, where
            this very batch is known already.

        Raises:
            IdReused: its id, or that of a job or callback, belongs to something else.
            QueueFull: as many jobs wait as are allowed.
            QueueUnavailable: it could not be kept, for now.
        """

    def find_batch(self, id: str) -> BatchStatus | None:
        """What is known of a batch, None for an unknown id and for jobs kept singly.

        Raises:
            QueueUnavailable: the queue could not be read, for now.
        """

    def cancel_batch(self, id: str) -> BatchStatus | None:
        """Cancel the jobs of a batch that wait, and ask the running ones to stop.

        Raises:
            QueueUnavailable: the queue could not be written, for now.
        """

    def workers(self) -> int | None:
        """How many worker processes are alive, None where the queue cannot know.

        Raises:
            QueueUnavailable: the queue could not be read, for now.
        """

    def is_taken(self, id: str) -> bool:
        """Whether the id is that of a job, a batch, or jobs that were put together singly.

        Raises:
            QueueUnavailable: the queue could not be read, for now.
        """

    def waiting(self, limit: int) -> int:
        """How many jobs wait, queued or scheduled, counted no further than the limit.

        A callback waits once it is due. Jobs whose put has returned are counted.

        Args:
            limit: where to stop counting, at least 0; the cost must not grow beyond it.

        Raises:
            QueueUnavailable: the queue could not be read, for now.
        """
