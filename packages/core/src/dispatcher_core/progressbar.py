"""A bar that shows on a terminal how far something is."""

import shutil
from typing import TextIO

from .status import Progress

__all__ = ["ProgressBar", "bar"]

_WIDEST = 40
_NARROWEST = 10


def bar(progress: Progress, text: str, columns: int) -> str:
    """One line with a bar and the text, cut off at so many columns."""
    percent = f"{progress.percent:3} %  {text}"
    width = min(_WIDEST, columns - len(percent) - len("[]  "))
    if width < _NARROWEST:
        return percent[:columns]
    full = width * progress.percent // 100
    return f"[{'#' * full}{'.' * (width - full)}]  {percent}"


class ProgressBar:
    """A line on a terminal that is drawn anew in its place.

    Args:
        stream: the terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._width = 0

    def draw(self, progress: Progress, text: str) -> None:
        """Draw it, with a text behind it."""
        line = bar(progress, text, shutil.get_terminal_size().columns - 1)
        self._stream.write(f"\r{line:{self._width}}")
        self._stream.flush()
        self._width = len(line)

    def end(self) -> None:
        """Leave it as it is, and go on below it."""
        if self._width:
            self._stream.write("\n")
            self._stream.flush()
            self._width = 0
