"""A dispatcher for tests: it sends nothing and remembers everything."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..batch_wire import BatchMessage
from ..config import Config
from ..delivery import Clock, Delivery
from ..dispatcher import Dispatcher
from ..jobs import Job
from ..protocols import Sender
from ..signing import Signer
from ..status import BatchStatus, JobStatus
from ..wire import JobMessage
from .expected import Expected, check_number, described_batch, described_job, fit_all, fits
from .fake_backend import URL, FakeBackend

__all__ = ["FakeDispatcher"]

_PATIENCE = 1e10  # seconds: no timeout is longer, so only a wait without one uses it up


class FakeDispatcher(Dispatcher):
    """A dispatcher that sends nothing, needs no settings, and records what it is given.

    Behind it is a backend in memory which accepts every job and runs none: a job stays
    ``queued`` (or ``scheduled``) until a test says otherwise with :meth:`set_status`, and a
    batch ``running`` until its jobs have ended, or :meth:`set_batch_status` says so. Calls
    go through the real code up to the sender, so that what a backend would refuse for its
    form is refused here too. Nothing sleeps: a wait ends at once when its time is up, and one
    without a timeout, for what nobody ends, with an ``AssertionError``.

    Args:
        config: what a ``Dispatcher`` takes; without effect here.
        sender: likewise.
    """

    def __init__(self, config: Config | None = None, *, sender: Sender | None = None) -> None:
        super().__init__(config, sender=sender)
        self._answers = FakeBackend()
        self._signer = Signer(secrets.token_hex(32))

    @property
    def dispatched(self) -> list[JobMessage]:
        """The jobs that were accepted singly, in order, each once."""
        return list(self._answers.dispatched)

    @property
    def batched(self) -> list[BatchMessage]:
        """The batches that were accepted, in order, each once."""
        return self._answers.queue.batches

    def assert_dispatched(
        self,
        job: str | Callable[..., object],
        payload: Mapping[str, object] | None = None,
        queue: str | None = None,
        *,
        times: int | None = None,
    ) -> list[JobMessage]:
        """The jobs that were accepted singly, and match.

        Args:
            job: the name, or the marked callable.
            payload: the whole payload; None for any.
            queue: the queue; None for any.
            times: how many there must be; None for at least one.

        Raises:
            AssertionError: there are fewer, or more.
        """
        wanted = job if payload is None else Job(job, payload)
        found = [
            message
            for message in self.dispatched
            if fits(message, wanted) and queue in (None, message.queue)
        ]
        name = Job(job).name
        check_number(found, times, described_job(name, payload, queue), self._listed())
        return found

    def assert_batched(
        self,
        jobs: Sequence[Expected] | None = None,
        *,
        then: Expected | None = None,
        catch: Expected | None = None,
        finally_: Expected | None = None,
        times: int | None = None,
    ) -> list[BatchMessage]:
        """The accepted batches that match; sets of single jobs are among them.

        Each job is given by its name or its marked callable, or as a ``Job`` whose payload,
        and queue if it has one, count too.

        Args:
            jobs: all of a batch, in order; None for any.
            then: the callback; None for any and for none, as with the other two.
            catch: the callback.
            finally_: the callback.
            times: how many batches there must be; None for at least one.

        Raises:
            AssertionError: there are fewer, or more.
        """
        callbacks = {"then": then, "catch": catch, "finally": finally_}
        wanted = {name: job for name, job in callbacks.items() if job is not None}
        found = [
            batch
            for batch in self.batched
            if (jobs is None or fit_all(batch.jobs, jobs))
            and all(fits(batch.callbacks.get(name), job) for name, job in wanted.items())
        ]
        check_number(found, times, "a batch that matches", self._listed())
        return found

    def assert_nothing_dispatched(self) -> None:
        """Check that no job and no batch was accepted.

        Raises:
            AssertionError: some were; the message lists them.
        """
        if self.dispatched or self.batched:
            raise AssertionError(f"expected no job, {self._listed()}")

    def fail_next(self, code: str = "unreachable") -> None:
        """Make the next call fail; called again, the one after it too.

        Args:
            code: a problem code of the wire format, ``unreachable``, ``tls-failed``,
                ``rejected`` or ``bad-answer``.

        Raises:
            ValueError: it is none of these.
        """
        self._answers.fail_next(code)

    def set_status(self, id: str, **fields: Any) -> JobStatus:
        """Set fields of a job's status, which :meth:`status` then returns.

        Args:
            id: of a job that was dispatched here, or of any other.
            fields: of ``JobStatus``; with a final state, ``finished_at`` defaults to now.

        Raises:
            TypeError: there is no such field.
            ValueError: there is no such state.
        """
        return self._answers.set_status(id, fields)

    def set_batch_status(self, id: str, **fields: Any) -> BatchStatus:
        """Set fields of a batch's status, which :meth:`batch_status` then returns.

        What becomes of its jobs counts by itself: this is for what no job tells, and for
        batches that were sent by others.

        Args:
            id: of a batch that was dispatched here, or of any other.
            fields: of ``BatchStatus``; with a final state, what was pending has ended so
                too, and ``finished_at`` defaults to now.

        Raises:
            TypeError: there is no such field.
            ValueError: there is no such state.
        """
        return self._answers.set_batch_status(id, fields)

    def _delivery(self) -> Delivery:
        # A fresh one for each call, so that each wait begins on a fresh clock.
        return Delivery(
            URL,
            self._signer,
            self._answers,
            timeout=5.0,
            deadline=15.0,
            tries=1,
            clock=_virtual_clock(),
        )

    def _listed(self) -> str:
        """All that was accepted, in words."""
        jobs = [described_job(job.job, job.payload, job.queue) for job in self.dispatched]
        batches = [f"batched: {described_batch(batch)}" for batch in self.batched]
        return "; ".join([f"dispatched: {'; '.join(jobs) or 'none'}", *batches])


def _virtual_clock() -> Clock:
    """A clock on which only sleeping takes time: the longer it took, the faster that passes."""
    slept = 0.0

    def sleep(seconds: float) -> None:
        nonlocal slept
        slept += max(seconds, slept / 1000)
        if slept > _PATIENCE:
            raise AssertionError("waiting for what nobody ends: use set_status()")

    async def sleep_async(seconds: float) -> None:
        sleep(seconds)

    return Clock(monotonic=lambda: slept, sleep=sleep, sleep_async=sleep_async)
