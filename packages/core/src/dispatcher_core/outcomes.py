"""What a handler raises to say how its job goes on, and what is raised in it."""

from datetime import timedelta

__all__ = ["Cancelled", "Fail", "JobTimeout", "Retry"]


class Retry(Exception):
    """Try the job again, whatever its ``retry_on`` says. Uses up one of its ``tries``.

    Args:
        after: seconds (or a ``timedelta``) to wait; None means the job's own backoff.
    """

    def __init__(self, after: float | timedelta | None = None) -> None:
        super().__init__("the job asked to be tried again")
        seconds = after.total_seconds() if isinstance(after, timedelta) else after
        if seconds is not None and not 0 <= seconds <= 366 * 86400:
            raise ValueError(f"Retry(after=...) takes 0 seconds to a year, not {after!r}")
        self.after = seconds


class Fail(Exception):
    """The job failed for good: it is not tried again."""


class Cancelled(Exception):
    """The job stops because it was asked to; it ends ``cancelled``."""

    def __init__(self, message: str = "the job was cancelled") -> None:
        super().__init__(message)


class JobTimeout(BaseException):
    """Raised in a handler that has run for as long as its ``timeout`` allows.

    No ``Exception``, so that a handler's own ``except Exception`` does not swallow it and
    ``finally`` still runs. Five seconds later the process is killed.
    """
