"""What an entry point of the group ``dispatcher.commands`` names."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Command"]


@dataclass(frozen=True, slots=True)
class Command:
    """One subcommand of ``dispatcher``.

    Attributes:
        help: what it does, in one line without a full stop.
        example: shown at the end of its ``--help``.
        configure: adds its arguments to the parser made for it.
        run: does it and returns the exit code: 0 done, 1 refused or failed, 2 usage.
    """

    help: str
    example: str
    configure: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
