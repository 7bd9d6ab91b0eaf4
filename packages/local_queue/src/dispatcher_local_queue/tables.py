"""Aligned text for people to read."""

from collections.abc import Collection, Mapping, Sequence

__all__ = ["print_pairs", "print_table"]


def print_table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[int] = ()
) -> None:
    """Print rows under their heads.

    Args:
        heads: what stands above each column.
        rows: the cells of each row.
        right: the columns that are aligned to the right.
    """
    lines = [heads, *([printable(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


def print_pairs(pairs: Mapping[str, str]) -> None:
    """Print names and values, one below the other."""
    width = max(map(len, pairs))
    for name, value in pairs.items():
        print(f"{name:{width}}  {printable(value)}")


def printable(text: str) -> str:
    """The text in one line, without characters that would steer a terminal."""
    line = " ".join(text.split())
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in line)
