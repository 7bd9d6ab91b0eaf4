"""How exceptions get to another process whole, and are copied."""

from typing import Any

__all__ = ["reduce_exception"]


def reduce_exception(error: BaseException) -> tuple[Any, ...]:
    """What ``pickle`` and ``copy`` need to make the exception again; for a ``__reduce__``.

    By default they call the class with ``args``, the message, which fails wherever
    ``__init__`` takes something else. So it is not called here: all that it set is restored.
    """
    return _bare, (type(error), *error.args), {**vars(error), "args": error.args}


def _bare(kind: type[BaseException], *args: object) -> BaseException:
    return kind.__new__(kind, *args)
