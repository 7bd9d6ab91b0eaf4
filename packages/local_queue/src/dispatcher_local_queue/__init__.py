"""A durable SQLite queue and its worker for Dispatcher."""

from importlib.metadata import version

from .queue import SQLiteQueue

__all__ = ["SQLiteQueue"]


def __getattr__(name: str) -> str:
    if name == "__version__":
        return version("dispatcher-local-queue")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
