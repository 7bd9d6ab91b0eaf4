"""The package as its users see it."""

from importlib.metadata import version

import pytest

import dispatcher_http_sender


def test_exports():
    """What the package exports exists."""
    assert dispatcher_http_sender.__all__ == ["UrllibSender"]
    assert all(hasattr(dispatcher_http_sender, name) for name in dispatcher_http_sender.__all__)


def test_version():
    """The version is that of the installed package."""
    assert version("dispatcher-http-sender") == dispatcher_http_sender.__version__


def test_unknown_attribute():
    """Any other name is an AttributeError that names it."""
    with pytest.raises(AttributeError, match="nonsense"):
        _ = dispatcher_http_sender.nonsense
