"""Figures as medians of several rounds, and their ratios, in one table."""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROUNDS = 5


def per_second(count: int, act: Callable[[], object]) -> float:
    """How many a second, when ``act`` does so many."""
    started = time.perf_counter()
    act()
    return count / (time.perf_counter() - started)


def medians(*measures: Callable[[], float], rounds: int = ROUNDS) -> list[float]:
    """The median of each measure. They take turns, so that a slow moment meets them all."""
    values: list[list[float]] = [[] for _ in measures]
    for _ in range(rounds):
        for each, measure in zip(values, measures, strict=True):
            each.append(measure())
    return [statistics.median(each) for each in values]


def percentile(values: list[float], share: float) -> float:
    """The value that this share of the values does not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


@contextmanager
def folder() -> Iterator[Path]:
    """A folder on the disk of the working directory, gone afterwards."""
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".benchmark-") as name:
        yield Path(name)


@dataclass(slots=True)
class Table:
    """Rows of figures with their goals.

    Attributes:
        missed: the rows whose goal was not met.
    """

    missed: list[str] = field(default_factory=list)

    def title(self, text: str) -> None:
        """Begin a part."""
        print(f"\n{text}", flush=True)

    def row(self, what: str, figure: str, *, goal: str = "", met: bool | None = None) -> None:
        """Print a row at once."""
        mark = "" if met is None else (" ok" if met else " MISSED")
        print(f"  {what:<52} {figure:>16}  {goal}{mark}", flush=True)
        if met is False:
            self.missed.append(what)

    def ratio(self, what: str, value: float, *, least: float) -> None:
        """Print a ratio that is to be at least so much."""
        self.row(what, f"{value:.2f}", goal=f"at least {least}", met=value >= least)

    def end(self) -> int:
        """The exit status: 0 when every goal was met."""
        if self.missed:
            missed = "; ".join(self.missed)
            print(f"\n{len(self.missed)} goal(s) missed: {missed}", file=sys.stderr)
        return 1 if self.missed else 0


def run(module: Mapping[str, Any]) -> int:
    """Run the parts of a benchmark that the command line names, all by default.

    Args:
        module: its globals; a part is a function whose name begins with ``part_``.

    Returns:
        The exit status: 0 when every goal was met.
    """
    found = [name for name in module if name.startswith("part_")]
    parts = {name.removeprefix("part_"): module[name] for name in found}
    parser = argparse.ArgumentParser(description=module["__doc__"].splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[*parts, []], help="default: all")
    table = Table()
    for name in parser.parse_args().parts or parts:
        parts[name](table)
    return table.end()
