"""The sending side: dispatch jobs to another application, and ask what became of them."""

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Self, cast

from .answers import accepted, job_status, pong
from .background import in_thread
from .config import Config
from .delivery import Call, Delivery
from .errors import DeliveryError, InvalidJob, NotFound
from .jobs import Delay, Job, valid_id, valid_queue
from .plugins import SENDERS, load_plugin
from .protocols import Sender
from .result import Result
from .signing import Signer
from .status import JobStatus, Pong
from .waiting import Waiting
from .wire import MAX_JOB_BODY, encode_dispatch

__all__ = ["Dispatcher"]

logger = logging.getLogger("dispatcher")


class Dispatcher:
    """Dispatches jobs to one backend. Threads may share it.

    Making one never fails for a missing setting; using it does.

    Args:
        config: the settings; None for the defaults, which name no backend.
        sender: sends the requests; None for the plugin that the settings name, loaded at
            the first call.
    """

    def __init__(self, config: Config | None = None, *, sender: Sender | None = None) -> None:
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
        delivery = self._delivery()
        now = datetime.fromtimestamp(delivery.clock.now(), UTC)
        body = encode_dispatch(message, queue, now)
        if len(body) > MAX_JOB_BODY:
            raise InvalidJob(
                f"the job has {len(body)} bytes as JSON, over the limit of {MAX_JOB_BODY}:"
                " store what is large elsewhere and send where it is"
            )
        try:
            response = delivery.send(Call("POST", "/dispatch", message.id, body))
            return accepted(message.id, response, delivery.clock.now())
        except DeliveryError as error:
            logger.error("job %s (%s) not dispatched: %s", message.id, message.name, error.code)
            return Result(id=message.id, ids=(message.id,), error=error)

    def status(self, id: str) -> JobStatus:
        """What the backend knows of a job.

        Raises:
            NotFound: it does not know the id.
            DeliveryError: it was not reached, or it refused.
            InvalidJob: no job can have this id.
            ConfigError: a setting is missing or wrong.
        """
        return self._ask("GET", valid_id(id))

    def wait(self, id: str, timeout: float | None = None) -> JobStatus:
        """The job's status once it ended.

        Passing trouble with the network, or of the backend, does not end the wait.

        Args:
            id: the job's id.
            timeout: seconds to wait at most; None for as long as it takes.

        Raises:
            WaitTimeout: it did not end in time; the error has the last status.
            NotFound: the backend does not know the id.
            DeliveryError: the backend refuses for good.
            InvalidJob: no job can have this id, or the timeout is negative.
            ConfigError: a setting is missing or wrong.
        """
        waiting = self._waiting(id, timeout)
        while (status := waiting.look()) is None:
            self._delivery().clock.sleep(waiting.pause())
        return status

    def cancel(self, id: str) -> JobStatus:
        """Cancel a job that waits, or ask a running one to stop; a finished one stays.

        Raises:
            NotFound: the backend does not know the id.
            DeliveryError: it was not reached, or it refused.
            InvalidJob: no job can have this id.
            ConfigError: a setting is missing or wrong.
        """
        return self._ask("DELETE", valid_id(id))

    def ping(self) -> Pong:
        """Whether the backend can be reached, accepts our secret, and has workers.

        Raises:
            DeliveryError: it was not reached, or it refused for another reason than our
                signature.
            ConfigError: a setting is missing or wrong.
        """
        return self._ping()

    async def adispatch(
        self,
        job: str | Callable[..., object] | Job,
        payload: Mapping[str, object] | None = None,
        queue: str = "default",
        *,
        delay: Delay = None,
        priority: int = 0,
        id: str | None = None,
    ) -> Result:
        """Like :meth:`dispatch`, without blocking the event loop."""
        return await in_thread(
            self.dispatch, job, payload, queue, delay=delay, priority=priority, id=id
        )

    async def astatus(self, id: str) -> JobStatus:
        """Like :meth:`status`, without blocking the event loop."""
        return await in_thread(self.status, id)

    async def await_(self, id: str, timeout: float | None = None) -> JobStatus:
        """Like :meth:`wait`, without blocking the event loop. ``await`` itself is a keyword."""
        waiting = await in_thread(self._waiting, id, timeout)
        while (status := await in_thread(waiting.look)) is None:
            await self._delivery().clock.sleep_async(waiting.pause())
        return status

    async def acancel(self, id: str) -> JobStatus:
        """Like :meth:`cancel`, without blocking the event loop."""
        return await in_thread(self.cancel, id)

    async def aping(self) -> Pong:
        """Like :meth:`ping`, without blocking the event loop."""
        return await in_thread(self.ping)

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

    def _ask(self, method: str, id: str, within: float | None = None) -> JobStatus:
        delivery = self._delivery()
        response = delivery.send(Call.without_body(method, f"/jobs/{id}"), within)
        try:
            return job_status(id, response, delivery.clock.now())
        except DeliveryError as error:
            if error.code == "not-found":
                raise NotFound(f"the backend knows no job by the id {id}") from None
            raise

    def _ping(self, within: float | None = None) -> Pong:
        delivery = self._delivery()
        response = delivery.send(Call.without_body("GET", "/ping"), within)
        return pong(response, delivery.clock.now())

    def _waiting(self, id: str, timeout: float | None) -> Waiting:
        valid_id(id)
        return Waiting(
            id,
            timeout,
            ask=lambda within: self._ask("GET", id, within),
            workers=self._workers,
            monotonic=self._delivery().clock.monotonic,
        )

    def _workers(self, within: float) -> int | None:
        try:
            return self._ping(within).workers
        except DeliveryError:
            return None


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
