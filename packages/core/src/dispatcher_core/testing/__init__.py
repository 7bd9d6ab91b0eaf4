"""For the tests of applications, and of queues."""

from .conformance import check_queue
from .fake import FakeDispatcher
from .handlers import RecordedJob, job_context
from .memory import MemoryQueue
from .wsgi import WSGISender

__all__ = [
    "FakeDispatcher",
    "MemoryQueue",
    "RecordedJob",
    "WSGISender",
    "check_queue",
    "job_context",
]
