"""What a worker process tells its supervisor, over a pipe."""

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass

__all__ = [
    "Done",
    "Left",
    "Loaded",
    "Ready",
    "Refused",
    "Report",
    "ReportReader",
    "ReportWriter",
]


@dataclass(frozen=True, slots=True)
class Loaded:
    """The application is loaded."""


@dataclass(frozen=True, slots=True)
class Ready:
    """It is set up too, and these are the names that may run."""

    jobs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """The application cannot be loaded."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing waits any more, and it was told to end then."""


@dataclass(frozen=True, slots=True)
class Left:
    """It ends by itself, as it should."""


Report = Loaded | Refused | Ready | Done | Left

_KINDS: dict[str, type[Report]] = {
    kind.__name__: kind for kind in (Loaded, Refused, Ready, Done, Left)
}


class ReportWriter:
    """The worker's end.

    Args:
        descriptor: of the pipe.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, report: Report) -> None:
        """Tell it; a supervisor that is gone does not matter."""
        message = [type(report).__name__, asdict(report)]
        data = json.dumps(message).encode("utf-8") + b"\n"
        with suppress(BrokenPipeError):
            while data:
                data = data[os.write(self._descriptor, data) :]


class ReportReader:
    """The supervisor's end.

    Args:
        descriptor: of the pipe, not blocking.

    Attributes:
        open: whether more can come.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.open = True
        self._rest = b""

    def read(self) -> list[Report]:
        """What came."""
        if not self.open:
            return []
        with suppress(BlockingIOError):
            while chunk := os.read(self.descriptor, 65536):
                self._rest += chunk
            self.close()
        *lines, self._rest = self._rest.split(b"\n")
        return [_KINDS[kind](**members) for kind, members in map(json.loads, lines)]

    def close(self) -> None:
        """Close the pipe."""
        if self.open:
            self.open = False
            os.close(self.descriptor)
