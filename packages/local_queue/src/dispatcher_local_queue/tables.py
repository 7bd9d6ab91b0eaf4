"""Aligned text for people to read."""

from collections.abc import Collection, Sequence

from dispatcher_core.printing import printable

__all__ = ["print_table"]


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
