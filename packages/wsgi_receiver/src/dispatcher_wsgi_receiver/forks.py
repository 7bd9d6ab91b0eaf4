"""What must not be inherited by a fork."""

import os
import weakref
from collections.abc import Callable

__all__ = ["after_fork"]


def after_fork(method: Callable[[], None]) -> None:
    """Call a method in every child that is forked from now on.

    For what has a lock or a thread: a fork has neither the threads of its parent nor a way to
    open a lock that one of them held.

    Args:
        method: a bound one; it does not keep its object alive.
    """
    reference = weakref.WeakMethod(method)
    os.register_at_fork(after_in_child=lambda: _call(reference))


def _call(reference: "weakref.WeakMethod[Callable[[], None]]") -> None:
    method = reference()
    if method is not None:
        method()
