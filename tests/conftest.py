"""What every test may count on."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def our_loggers() -> Iterator[None]:
    """Our loggers are as they were: commands that run in the test's process set them up."""
    before = {logger: (logger.level, logger.disabled, logger.handlers[:]) for logger in ours()}
    yield
    for logger in ours():
        level, disabled, handlers = before.get(logger, (logging.NOTSET, False, []))
        logger.setLevel(level)
        logger.disabled = disabled
        logger.handlers[:] = handlers


def ours() -> list[logging.Logger]:
    """The loggers of the packages that exist by now."""
    named = logging.root.manager.loggerDict.items()
    return [
        logger
        for name, logger in named
        if name.partition(".")[0] == "dispatcher" and isinstance(logger, logging.Logger)
    ]
