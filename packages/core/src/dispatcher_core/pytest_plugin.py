"""The pytest plugin of Dispatcher: the fixture ``fake_dispatcher``."""

import pytest

from .dispatcher import Dispatcher
from .testing import FakeDispatcher

__all__ = ["fake_dispatcher"]


@pytest.fixture
def fake_dispatcher(monkeypatch: pytest.MonkeyPatch) -> FakeDispatcher:
    """A ``FakeDispatcher`` that catches the calls of every ``Dispatcher`` of the program.

    Those made before the test, and module-global ones, are caught too. None needs settings.
    """
    fake = FakeDispatcher()
    monkeypatch.setattr(Dispatcher, "_delivery", lambda dispatcher: fake._delivery())
    return fake
