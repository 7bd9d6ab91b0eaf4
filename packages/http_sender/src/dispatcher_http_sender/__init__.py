"""The HTTP senders of Dispatcher."""

from importlib.metadata import version

from .urllib_sender import UrllibSender as UrllibSender

__all__ = ["UrllibSender"]


def __getattr__(name: str) -> str:
    if name == "__version__":
        return version("dispatcher-http-sender")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
