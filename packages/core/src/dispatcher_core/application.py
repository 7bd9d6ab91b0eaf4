"""The application's own code: its jobs, and its two set-up hooks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .aliases import AliasRegistry, load_object
from .config import Alias
from .describing import shown
from .errors import JobLoadError

__all__ = ["Application", "load_application"]


@dataclass(frozen=True, slots=True)
class Application:
    """What an application brings.

    Attributes:
        registry: the jobs that may run.
        lifespan: called without arguments for the context manager that a worker process
            enters once; None without one.
        around_job: called with the ``JobContext`` for the context manager around each
            attempt; None without one.
    """

    registry: AliasRegistry
    lifespan: Callable[[], Any] | None
    around_job: Callable[..., Any] | None


def load_application(
    *,
    modules: Sequence[str],
    aliases: Mapping[str, Alias],
    lifespan: str | None,
    around_job: str | None,
) -> Application:
    """Import the application: the hooks' modules first, then the others in order.

    Args:
        modules: modules whose ``@job``s may run.
        aliases: names and what they call.
        lifespan: ``module:callable``, None for none.
        around_job: ``module:callable``, None for none.

    Raises:
        JobLoadError: something does not import, or a hook is no callable.
        KeyboardInterrupt: the user pressed Ctrl-C, where that interrupts.
    """
    hooks = [_hook(lifespan), _hook(around_job)]
    return Application(AliasRegistry(aliases, modules), *hooks)


def _hook(name: str | None) -> Callable[..., Any] | None:
    if name is None:
        return None
    hook = load_object(name)
    if not callable(hook):
        raise JobLoadError(f"the hook {name!r} is {shown(hook)}, which cannot be called", name)
    return hook
