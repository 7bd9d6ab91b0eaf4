"""What the demo shows while it runs."""

import shutil
import time
from typing import TextIO

from ..progressbar import bar
from ..status import Progress

__all__ = ["Screen"]

_EVERY = 1.0
_EVERY_ON_TERMINAL = 0.05


class Screen:
    """Lines, and a progress: a bar that is drawn anew in its place on a terminal.

    Args:
        stream: where they go.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._terminal = stream.isatty()
        self._pause = _EVERY_ON_TERMINAL if self._terminal else _EVERY
        self._due = 0.0
        self._width = 0

    def progress(self, what: str, progress: Progress) -> None:
        """Show how far it is, but not each time: several times a second on a terminal."""
        if progress.done < progress.total and time.monotonic() < self._due:
            return
        self._due = time.monotonic() + self._pause
        text = f"{what} {progress.done} of {progress.total}"
        if self._terminal:
            shown = bar(progress, text, shutil.get_terminal_size().columns - 1)
            self._write(f"\r{shown:{self._width}}")
            self._width = len(shown)
        else:
            self._write(f"{text}\n")

    def line(self, text: str) -> None:
        """Show a line that stays."""
        self.clear()
        self._write(f"{text}\n")

    def clear(self) -> None:
        """Take the progress off the terminal."""
        if self._width:
            self._write(f"\r{'':{self._width}}\r")
            self._width = 0

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
