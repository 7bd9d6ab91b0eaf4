"""What a handler raises to say how its job goes on, and what is raised in it.

All of these can be pickled and copied, subclasses with an ``__init__`` of their own too.
"""

from datetime import timedelta

from .describing import shown
from .pickling import reduce_exception

__all__ = ["Cancelled", "Fail", "JobTimeout", "Retry"]


class Retry(Exception):
    """Try the job again, whatever its ``retry_on`` says. Uses up one of its ``tries``.

    Args:
        after: seconds (or a ``timedelta``) to wait; None means the job's own backoff.
    """

    __reduce__ = reduce_exception

    def __init__(self, after: float | timedelta | None = None) -> None:
        super().__init__("the job asked to be tried again")
        seconds = after.total_seconds() if isinstance(after, timedelta) else after
        if seconds is not None and not 0 <= seconds <= 366 * 86400:
            raise ValueError(f"Retry(after=...) takes 0 seconds to a year, not {shown(after)}")
        self.after = seconds


class Fail(Exception):
    """The job failed for good: it is not tried again."""

    __reduce__ = reduce_exception


class Cancelled(Exception):
    """The job stops because it was asked to; it ends ``cancelled``."""

    __reduce__ = reduce_exception

    def __init__(self, message: str = "the job was cancelled") -> None:
        super().__init__(message)


class JobTimeout(BaseException):
    """Raised in a handler that has run for as long as its ``timeout`` allows.

    No ``Exception``, so that a handler's own ``except Exception`` does not swallow it and
    ``finally`` still runs. Five seconds later the process is killed.
    """

    __reduce__ = reduce_exception
