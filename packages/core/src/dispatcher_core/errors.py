"""The errors of Dispatcher.

::

    DispatcherError
    ├── ConfigError                a setting is missing or wrong
    │   ├── MissingSetting         the message names the variable and how to set it
    │   ├── PluginNotFound         no installed package offers the configured name
    │   └── JobLoadError           a module, alias or hook of the application does not load
    ├── InvalidJob                 a caller's job cannot be sent (also a ValueError)
    ├── RequestError               a request breaks the wire format
    │   └── SignatureError         a request is not signed by a known secret, or too old
    ├── UnknownJob                 a name that nothing is registered for
    ├── InvalidPayload             a payload that does not fit the handler's signature
    ├── DeliveryError              the backend was not reached, or refused
    │   ├── SendFailed             one try ended without an answer (raised by senders)
    │   └── NotFound               the backend knows no such job or batch
    ├── WaitTimeout                it did not end in time (also a TimeoutError)
    ├── QueueError                 a queue cannot do what was asked
    │   ├── QueueUnavailable       for now: locked, disk full, not writable
    │   ├── QueueFull              for now: as many jobs wait as are allowed
    │   ├── IdReused               the id belongs to something else already
    │   └── BatchClosed            a batch takes no more jobs
    └── NoCurrentJob               ``current_job()`` outside of a job

Every error has a stable ``code``, meant for programs; its text is meant for people. Errors
can be pickled and copied, subclasses with an ``__init__`` of their own too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from .pickling import reduce_exception
from .status import BatchStatus, JobStatus

__all__ = [
    "BatchClosed",
    "BatchFault",
    "ConfigError",
    "DeliveryError",
    "DispatcherError",
    "IdReused",
    "InvalidJob",
    "InvalidPayload",
    "JobLoadError",
    "MissingSetting",
    "NoCurrentJob",
    "NotFound",
    "PluginNotFound",
    "QueueError",
    "QueueFull",
    "QueueUnavailable",
    "RequestError",
    "SendFailed",
    "SignatureError",
    "UnknownJob",
    "WaitTimeout",
]


class DispatcherError(Exception):
    """The base of every error here.

    Attributes:
        code: a stable word for programs, such as ``unknown-job``.
    """

    code = "error"
    __reduce__ = reduce_exception


class ConfigError(DispatcherError):
    """A setting is missing or wrong."""

    code = "invalid-config"


class MissingSetting(ConfigError):
    """A setting is needed and has no value.

    Attributes:
        setting: its name, such as ``url``.
    """

    code = "missing-setting"

    def __init__(self, message: str, setting: str) -> None:
        super().__init__(message)
        self.setting = setting


class PluginNotFound(ConfigError):
    """No installed package offers what the configuration names.

    Attributes:
        name: the name that was looked for.
        available: the names that are installed.
    """

    code = "plugin-not-found"

    def __init__(self, message: str, name: str, available: Sequence[str]) -> None:
        super().__init__(message)
        self.name = name
        self.available = tuple(available)


class JobLoadError(ConfigError):
    """A module, an alias or a hook of the application cannot be loaded.

    Attributes:
        target: what was to be loaded, such as ``myapp.jobs``.
    """

    code = "job-load-error"

    def __init__(self, message: str, target: str) -> None:
        super().__init__(message)
        self.target = target


class InvalidJob(DispatcherError, ValueError):
    """A job that cannot be sent: the caller's mistake."""

    code = "invalid-job"


class RequestError(DispatcherError):
    """A request breaks the wire format.

    Attributes:
        code: ``malformed``, ``invalid-request`` or ``too-large``.
    """

    code = "malformed"

    def __init__(self, message: str, code: str = "malformed") -> None:
        super().__init__(message)
        self.code = code


class SignatureError(RequestError):
    """A request is not signed by a known secret, or its timestamp is out of range.

    Attributes:
        code: ``bad-signature``, ``timestamp-out-of-range``, or ``malformed`` for a header
            that breaks the wire format.
    """

    def __init__(self, message: str, code: str = "bad-signature") -> None:
        super().__init__(message, code)


class UnknownJob(DispatcherError):
    """Nothing is registered for a job's name.

    Attributes:
        name: the name.
    """

    code = "unknown-job"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"no job is registered as {name!r}: mark one with @job in a module listed in"
            " DISPATCHER_MODULES, or add an alias"
        )
        self.name = name


class InvalidPayload(DispatcherError):
    """A payload does not fit the signature of the job's handler."""

    code = "invalid-payload"


@dataclass(frozen=True, slots=True)
class BatchFault:
    """What keeps one job of a batch from running at the backend.

    Attributes:
        at: its index, or ``then``, ``catch`` or ``finally``.
        code: ``unknown-job`` or ``invalid-payload``.
        detail: what is wrong, in words.
    """

    at: int | str
    code: str
    detail: str


class DeliveryError(DispatcherError):
    """The backend was not reached, or it refused.

    Attributes:
        code: the problem code of the backend's answer, else ``unreachable``, ``timeout``,
            ``tls-failed``, ``bad-answer`` or ``rejected``.
        status: the HTTP status of the last answer, None without one.
        retry_after: seconds after which the backend asks to be tried again, None if it
            does not say.
        errors: the jobs of a batch that keep it from being accepted, the first hundred.
    """

    code = "rejected"

    def __init__(
        self,
        message: str,
        code: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        errors: Sequence[BatchFault] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.retry_after = retry_after
        self.errors = tuple(errors)


class SendFailed(DeliveryError):
    """One try ended without an answer that can be used.

    Attributes:
        retryable: whether another try may end better. False for a TLS failure, which
            retrying would only hide.
    """

    def __init__(self, message: str, code: str = "unreachable", *, retryable: bool = True) -> None:
        super().__init__(message, code)
        self.retryable = retryable


class NotFound(DeliveryError):
    """The backend knows nothing by this id."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "not-found", status=404)


class WaitTimeout(DispatcherError, TimeoutError):
    """A job or batch did not end within the time given to ``wait`` or ``wait_batch``.

    Attributes:
        status: the last status seen, None when the backend never answered.
    """

    code = "wait-timeout"

    def __init__(self, message: str, status: JobStatus | BatchStatus | None) -> None:
        super().__init__(message)
        self.status = status


class QueueError(DispatcherError):
    """A queue cannot do what was asked."""

    code = "queue-error"


class QueueUnavailable(QueueError):
    """The queue cannot do it for now: it is locked, its disk is full or not writable."""

    code = "unavailable"


class QueueFull(QueueError):
    """As many jobs wait as the queue allows."""

    code = "queue-full"


class IdReused(QueueError):
    """The id belongs to something other than what is to be put under it.

    Attributes:
        id: the id.
    """

    code = "id-reused"

    def __init__(self, id: str) -> None:
        super().__init__(f"the id {id!r} was used before, for something else: take a new one")
        self.id = id


class BatchClosed(QueueError):
    """A batch takes no more jobs: it is finished or cancelled, or there is none."""

    code = "batch-closed"


class NoCurrentJob(DispatcherError):
    """``current_job()`` was called where no job runs."""

    code = "no-current-job"
