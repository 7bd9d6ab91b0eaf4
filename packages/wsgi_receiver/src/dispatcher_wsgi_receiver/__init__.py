"""The receiving side of Dispatcher as a plain WSGI application."""

from importlib.metadata import version

from .application import create_app as create_app
from .mount import mount as mount
from .receiver import Receiver as Receiver

__all__ = ["Receiver", "create_app", "mount"]


def __getattr__(name: str) -> str:
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return version("dispatcher-wsgi-receiver")
