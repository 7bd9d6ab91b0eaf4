"""Dispatch jobs between applications with nothing but HTTP and a shared secret.

One application sends with :class:`Dispatcher`, the other marks what may run with
:func:`job`.
"""

from importlib.metadata import version as _version

from .aliases import AliasRegistry
from .batch_wire import BatchMessage
from .config import Alias, Backend, Config
from .context import JobContext, current_job
from .dispatcher import Dispatcher
from .errors import (
    BatchClosed,
    BatchFault,
    ConfigError,
    DeliveryError,
    DispatcherError,
    IdReused,
    InvalidJob,
    InvalidPayload,
    JobLoadError,
    MissingSetting,
    NoCurrentJob,
    NotFound,
    PluginNotFound,
    QueueError,
    QueueFull,
    QueueUnavailable,
    RequestError,
    SendFailed,
    SignatureError,
    UnknownJob,
    WaitTimeout,
)
from .handlers import Handler, job
from .jobs import Job
from .outcomes import Cancelled, Fail, JobTimeout, Retry
from .protocols import Queue, Request, Response, Sender
from .result import Result
from .signing import Signer
from .status import BatchState, BatchStatus, JobError, JobState, JobStatus, Pong, Progress
from .wire import JobMessage

__all__ = [
    "Alias",
    "AliasRegistry",
    "Backend",
    "BatchClosed",
    "BatchFault",
    "BatchMessage",
    "BatchState",
    "BatchStatus",
    "Cancelled",
    "Config",
    "ConfigError",
    "DeliveryError",
    "Dispatcher",
    "DispatcherError",
    "Fail",
    "Handler",
    "IdReused",
    "InvalidJob",
    "InvalidPayload",
    "Job",
    "JobContext",
    "JobError",
    "JobLoadError",
    "JobMessage",
    "JobState",
    "JobStatus",
    "JobTimeout",
    "MissingSetting",
    "NoCurrentJob",
    "NotFound",
    "PluginNotFound",
    "Pong",
    "Progress",
    "Queue",
    "QueueError",
    "QueueFull",
    "QueueUnavailable",
    "Request",
    "RequestError",
    "Response",
    "Result",
    "Retry",
    "SendFailed",
    "Sender",
    "SignatureError",
    "Signer",
    "UnknownJob",
    "WaitTimeout",
    "current_job",
    "job",
]


def __getattr__(name: str) -> str:
    # Read when asked for: finding the package's metadata costs time at each start.
    if name == "__version__":
        return _version("dispatcher-core")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
