"""The sending side: dispatch jobs to another application, and ask what became of them."""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import Self, cast

from .background import in_thread, without_blocking
from .batching import BatchTerms
from .client import Client
from .config import Config
from .delivery import Delivery
from .errors import ConfigError, InvalidJob
from .jobs import Delay, Job, valid_id, valid_queue
from .plugins import SENDERS, load_plugin
from .protocols import Sender
from .result import Result
from .signing import Signer
from .status import BatchStatus, JobStatus, Pong

__all__ = ["Dispatcher"]


class Dispatcher:
    """Dispatches jobs to one backend. Threads may share it.

    Making one never fails for a missing setting; using it does.

    Args:
        config: the settings; None for the defaults, which name no backend.
        sender: sends the requests; None for the plugin that the settings name, loaded at
            the first call.

    Raises:
        ConfigError: the config is something other than a ``Config``.
    """

    def __init__(self, config: Config | None = None, *, sender: Sender | None = None) -> None:
        if not isinstance(config, Config | None):
            kind = type(config).__name__
            raise ConfigError(f"a Dispatcher takes a Config, such as Config(url=...), no {kind}")
        self._config = Config() if config is None else config
        self._sender = sender
        self._backend: str | None = None
        self._built: Delivery | None = None

    @classmethod
    def from_env(cls, backend: str | None = None) -> Self:
        """A dispatcher with the settings of the environment, ``.env`` and ``dispatcher.toml``.

        Args:
            backend: the name of a backend; None for the unnamed one.

        Raises:
            ConfigError: a setting is wrong.
        """
        dispatcher = cls(Config.load())
        dispatcher._backend = backend
        return dispatcher

    def dispatch(
        self,
        job: str | Callable[..., object] | Job,
        payload: Mapping[str, object] | None = None,
        queue: str = "default",
        *,
        delay: Delay = None,
        priority: int = 0,
        id: str | None = None,
    ) -> Result:
        """Have the backend run a job.

        Whatever happens on the way is a failed result, logged once. Dispatching again with
        the result's id is safe: the backend never enqueues one id twice.

        Args:
            job: its name, a callable marked with ``@job``, or a ``Job``, which brings its
                own payload, delay, priority and id.
            payload: the handler's keyword arguments, a JSON object.
            queue: the queue to put it in, unless the ``Job`` names one.
            delay: seconds, a ``timedelta``, or an aware ``datetime`` before it may start.
            priority: -100 to 100; higher ones start first.
            id: what identifies it; None for a fresh one.

        Raises:
            InvalidJob: one of these is wrong, or the job is over ``MAX_JOB_BODY`` bytes.
            ConfigError: a setting is missing or wrong.
        """
        message = _message(job, payload, delay, priority, id)
        valid_queue(queue)
        return self._client().dispatch(message, queue)

    def batch(
        self,
        jobs: Iterable[Job],
        queue: str = "default",
        should_batch: bool = True,
        *,
        then: Job | None = None,
        catch: Job | None = None,
        finally_: Job | None = None,
        allow_failures: bool = False,
        id: str | None = None,
    ) -> Result:
        """Have the backend run many jobs, accepted all together or not at all.

        What comes of them is one outcome, the batch's. As with :meth:`dispatch`, sending the
        same jobs again with the result's id is safe. Where jobs in it cannot run at the
        backend, ``result.error.errors`` says which, and why.

        Args:
            jobs: the jobs, at most 10,000.
            queue: the queue for those that name none, and for the callbacks.
            should_batch: whether they are a batch; else they are queued singly, and all
                that is known by the id is that they were sent.
            then: the job to run when all succeeded (or ended, with ``allow_failures``).
            catch: the job to run at the first final failure.
            finally_: the job to run when nothing is pending any more.
            allow_failures: whether the batch goes on, and succeeds, when jobs fail; else the
                first final failure cancels those that wait.
            id: what identifies the batch; None for a fresh one.

        Returns:
            The result, whose ``ids`` are those of the jobs, in order.

        Raises:
            InvalidJob: one of these is wrong, an id is there twice, or the jobs are too many
                or too large for one request: then :meth:`batches` goes on.
            ConfigError: a setting is missing or wrong.
        """
        terms = BatchTerms(queue, should_batch, allow_failures, then, catch, finally_)
        client = self._client()
        return client.dispatch_batch(terms.one(jobs, id, client.now()))

    def batches(
        self,
        jobs: Iterable[Job],
        size: int = 1000,
        queue: str = "default",
        should_batch: bool = True,
        *,
        then: Job | None = None,
        catch: Job | None = None,
        finally_: Job | None = None,
        allow_failures: bool = False,
    ) -> Iterator[Result]:
        """Send any number of jobs as a series of batches, each when its turn comes.

        No more than ``size`` jobs are in memory at once. A batch that was not accepted is a
        failed result like any other, and the series goes on: whoever takes the results
        decides whether to stop. A batch's id is made from the ids of its jobs, so sending
        the same jobs again, with the same ids, order and size, enqueues none twice.

        Args:
            jobs: the jobs; they are taken as the series goes on.
            size: how many a batch has at most, 1 to 10,000; fewer where they are large.
            queue: as in :meth:`batch`, like all that follow.
            should_batch: whether they are batches.
            then: the job that each batch runs when all of its own succeeded, with a fresh id.
            catch: the one at the first final failure in a batch.
            finally_: the one when nothing of a batch is pending any more.
            allow_failures: whether a batch goes on, and succeeds, when jobs fail.

        Yields:
            What came of each batch, in order.

        Raises:
            InvalidJob: one of these is wrong; or, while it goes on, a job: what was yielded
                before is sent, nothing else is.
            ConfigError: a setting is missing or wrong.
        """
        terms = BatchTerms(queue, should_batch, allow_failures, then, catch, finally_)
        client = self._client()
        requests = terms.series(jobs, size, client.now)
        return (client.dispatch_batch(request) for request in requests)

    def status(self, id: str) -> JobStatus:
        """What the backend knows of a job.

        Raises:
            NotFound: it does not know the id.
            DeliveryError: it was not reached, or it refused.
            InvalidJob: no job can have this id.
            ConfigError: a setting is missing or wrong.
        """
        return self._client().job("GET", valid_id(id))

    def wait(self, id: str, timeout: float | None = None) -> JobStatus:
        """The job's status once it ended.

        Passing trouble with the network, or of the backend, does not end the wait.

        Args:
            id: the job's id.
            timeout: seconds to wait at most; None for as long as it takes. A last look when
                they are over takes up to a second more, where the backend hangs.

        Raises:
            WaitTimeout: it did not end in time; the error has the last status.
            NotFound: the backend does not know the id.
            DeliveryError: the backend refuses for good.
            InvalidJob: no job can have this id, or the timeout is negative.
            ConfigError: a setting is missing or wrong.
        """
        return self._client().wait_for_job(valid_id(id), timeout).end()

    def cancel(self, id: str) -> JobStatus:
        """Cancel a job that waits, or ask a running one to stop; a finished one stays.

        Raises:
            NotFound: the backend does not know the id.
            DeliveryError: it was not reached, or it refused.
            InvalidJob: no job can have this id.
            ConfigError: a setting is missing or wrong.
        """
        return self._client().job("DELETE", valid_id(id))

    def batch_status(self, id: str) -> BatchStatus:
        """What the backend knows of a batch.

        Raises:
            NotFound: it knows no batch by the id.
            DeliveryError: it was not reached, or it refused.
            InvalidJob: no batch can have this id.
            ConfigError: a setting is missing or wrong.
        """
        return self._client().batch("GET", valid_id(id))

    def wait_batch(self, id: str, timeout: float | None = None) -> BatchStatus:
        """The batch's status once nothing in it is pending any more.

        Args:
            id: the batch's id.
            timeout: seconds to wait at most; None for as long as it takes. A last look when
                they are over takes up to a second more, where the backend hangs.

        Raises:
            WaitTimeout: it did not end in time; the error has the last status.
            NotFound: the backend knows no batch by the id.
            DeliveryError: the backend refuses for good.
            InvalidJob: no batch can have this id, or the timeout is negative.
            ConfigError: a setting is missing or wrong.
        """
        return self._client().wait_for_batch(valid_id(id), timeout).end()

    def cancel_batch(self, id: str) -> BatchStatus:
        """Cancel what waits in a batch, ask what runs to stop; a finished batch stays.

        Raises:
            NotFound: the backend knows no batch by the id.
            DeliveryError: it was not reached, or it refused.
            InvalidJob: no batch can have this id.
            ConfigError: a setting is missing or wrong.
        """
        return self._client().batch("DELETE", valid_id(id))

    def ping(self) -> Pong:
        """Whether the backend can be reached, accepts our secret, and has workers.

        Raises:
            DeliveryError: it was not reached, or it refused for another reason than our
                signature.
            ConfigError: a setting is missing or wrong.
        """
        return self._client().ping()

    adispatch = without_blocking(dispatch)
    abatch = without_blocking(batch)
    astatus = without_blocking(status)
    acancel = without_blocking(cancel)
    abatch_status = without_blocking(batch_status)
    acancel_batch = without_blocking(cancel_batch)
    aping = without_blocking(ping)

    async def await_(self, id: str, timeout: float | None = None) -> JobStatus:
        """Like :meth:`wait`, without blocking the event loop. ``await`` itself is a keyword."""
        client = await in_thread(self._client)
        return await client.wait_for_job(valid_id(id), timeout).end_async()

    async def await_batch(self, id: str, timeout: float | None = None) -> BatchStatus:
        """Like :meth:`wait_batch`, without blocking the event loop."""
        client = await in_thread(self._client)
        return await client.wait_for_batch(valid_id(id), timeout).end_async()

    async def abatches(
        self,
        jobs: Iterable[Job],
        size: int = 1000,
        queue: str = "default",
        should_batch: bool = True,
        *,
        then: Job | None = None,
        catch: Job | None = None,
        finally_: Job | None = None,
        allow_failures: bool = False,
    ) -> AsyncIterator[Result]:
        """Like :meth:`batches`, without blocking the event loop: threads go through the jobs."""
        callbacks = {"then": then, "catch": catch, "finally_": finally_}
        results = await in_thread(
            self.batches,
            jobs,
            size,
            queue,
            should_batch,
            allow_failures=allow_failures,
            **callbacks,
        )
        while (result := await in_thread(next, results, None)) is not None:
            yield result

    def _client(self) -> Client:
        return Client(self._delivery())

    def _delivery(self) -> Delivery:
        """What carries the calls. Tests replace it to catch those of every dispatcher."""
        # Two threads may both find nothing here: then each builds one, and either will do.
        if self._built is None:
            self._built = self._build()
        return self._built

    def _build(self) -> Delivery:
        config = self._config
        if self._backend is not None:
            config = config.for_backend(self._backend)
        url, secret = config.require("url"), config.require("secret")
        sender = self._sender
        if sender is None:
            sender = cast(Callable[[], Sender], load_plugin(SENDERS, config.sender))()
        return Delivery(
            url, Signer(secret), sender, timeout=config.timeout, deadline=config.deadline
        )


def _message(
    job: str | Callable[..., object] | Job,
    payload: Mapping[str, object] | None,
    delay: Delay,
    priority: int,
    id: str | None,
) -> Job:
    if not isinstance(job, Job):
        return Job(job, payload, delay=delay, priority=priority, id=id)
    if (payload, delay, priority, id) != (None, None, 0, None):
        raise InvalidJob("a Job brings its own payload, delay, priority and id: set them there")
    return job
