"""What a sender makes of many jobs: requests with at most so many jobs and bytes."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Self

from .batch_wire import MAX_BATCH_BODY, MAX_BATCH_JOBS, encode_batch, encode_items, with_items
from .describing import shown
from .errors import InvalidJob
from .jobs import Job, each_job, valid_id, valid_queue
from .names import derived_id, new_id

__all__ = ["BatchRequest", "BatchTerms"]

_ENCODED_AT_ONCE = 16  # quicker than one by one, and little is encoded in vain
_GO_ON = "send them as several batches, with batches()"


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """A batch that is ready to be sent.

    Attributes:
        id: the batch's id.
        ids: the ids of its jobs, in order.
        body: the body of the request.
    """

    id: str
    ids: tuple[str, ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class BatchTerms:
    """How the jobs of a batch, or of each batch of a series, are to be run.

    Attributes:
        queue: the queue for jobs and callbacks that name none.
        should_batch: whether they are a batch; else they are queued singly.
        allow_failures: whether the batch goes on, and succeeds, when jobs fail.
        then: the job to run when all succeeded (or ended, with ``allow_failures``).
        catch: the job to run at the first final failure.
        finally_: the job to run when nothing is pending any more.

    Raises:
        InvalidJob: one of these is wrong.
    """

    queue: str
    should_batch: bool
    allow_failures: bool
    then: Job | None
    catch: Job | None
    finally_: Job | None

    def __post_init__(self) -> None:
        valid_queue(self.queue)
        for name in ("should_batch", "allow_failures"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidJob(f"{name}={shown(getattr(self, name))} must be True or False")
        for name in ("then", "catch", "finally_"):
            if not isinstance(getattr(self, name), Job | None):
                raise InvalidJob(f"{name}= must be a Job, or None")
        if self._callbacks() and not self.should_batch:
            raise InvalidJob("then, catch and finally_ need a batch: leave should_batch at True")

    def one(self, jobs: Iterable[Job], id: str | None, now: datetime) -> BatchRequest:
        """The request that sends all of the jobs.

        Args:
            jobs: the jobs.
            id: the batch's id; None for a fresh one.
            now: the time against which a ``datetime`` as delay is counted.

        Raises:
            InvalidJob: they are no jobs, two have one id, or they are too many for one.
        """
        batch_id = new_id() if id is None else valid_id(id)
        all_jobs = list(islice(each_job(jobs), MAX_BATCH_JOBS + 1))
        if len(all_jobs) > MAX_BATCH_JOBS:
            raise InvalidJob(f"there are more than {MAX_BATCH_JOBS} jobs: {_GO_ON}")
        self._check_distinct(batch_id, all_jobs)
        body, count = self._packed(all_jobs, now)
        if count < len(all_jobs):
            raise InvalidJob(f"the jobs are over {MAX_BATCH_BODY} bytes as JSON: {_GO_ON}")
        return BatchRequest(batch_id, tuple(job.id for job in all_jobs), body)

    def series(
        self, jobs: Iterable[Job], size: int, now: Callable[[], datetime]
    ) -> Iterator[BatchRequest]:
        """The requests that send the jobs, in order, made one after the other.

        The id of each is made from the ids of its jobs, and each has callbacks of its own.

        Args:
            jobs: the jobs; no more than ``size`` of them are held at once.
            size: how many a batch has at most; fewer where they are large.
            now: the time when it is called.

        Raises:
            InvalidJob: the size is wrong; or, in the course of it, what :meth:`one` raises.
        """
        if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= MAX_BATCH_JOBS:
            raise InvalidJob(f"size={shown(size)} must be a whole number, 1 to {MAX_BATCH_JOBS}")
        return self._series(each_job(jobs), size, now)

    def _series(
        self, jobs: Iterator[Job], size: int, now: Callable[[], datetime]
    ) -> Iterator[BatchRequest]:
        held: list[Job] = []
        while held := [*held, *islice(jobs, size - len(held))]:
            terms = self._renewed()
            terms._check_distinct("", held)
            body, count = terms._packed(held, now())
            ids = tuple(job.id for job in held[:count])
            yield BatchRequest(derived_id(ids), ids, body)
            del held[:count]

    def _renewed(self) -> Self:
        """The same terms with callbacks that have ids of their own."""
        then, catch, finally_ = map(_again, (self.then, self.catch, self.finally_))
        return replace(self, then=then, catch=catch, finally_=finally_)

    def _callbacks(self) -> dict[str, Job]:
        given = {"then": self.then, "catch": self.catch, "finally_": self.finally_}
        return {name: job for name, job in given.items() if job is not None}

    def _packed(self, jobs: Sequence[Job], now: datetime) -> tuple[bytes, int]:
        """A body with as many of the jobs as it can have, and how many that is."""
        empty = encode_batch(
            (),
            self.queue,
            now,
            should_batch=self.should_batch,
            allow_failures=self.allow_failures,
            then=self.then,
            catch=self.catch,
            finally_=self.finally_,
        )
        pieces: list[bytes] = []
        room = MAX_BATCH_BODY - len(empty) + 1  # the first has no comma before it
        count = 0
        for at_once in (_ENCODED_AT_ONCE, 1):  # of a piece that does not fit, some jobs may
            while count < len(jobs):
                piece = encode_items(jobs[count : count + at_once], now)
                if len(piece) + 1 > room:
                    break
                pieces.append(piece)
                room -= len(piece) + 1
                count = min(count + at_once, len(jobs))
        if jobs and not count:
            raise InvalidJob(
                f"the job {jobs[0].id} alone is over {MAX_BATCH_BODY} bytes as JSON:"
                " store what is large elsewhere and send where it is"
            )
        return with_items(empty, pieces), count

    def _check_distinct(self, batch_id: str, jobs: Sequence[Job]) -> None:
        ids = [batch_id, *(job.id for job in (*self._callbacks().values(), *jobs))]
        if len(set(ids)) < len(ids):
            [(twice, _)] = Counter(ids).most_common(1)
            raise InvalidJob(
                f"the id {twice!r} is there twice: a Job is for one run, so make one for each"
            )


def _again(job: Job | None) -> Job | None:
    return None if job is None else replace(job, id=new_id())
