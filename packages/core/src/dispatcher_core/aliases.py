"""Which names the network may ask for, and what they run."""

import importlib
import pkgutil
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import ModuleType
from typing import TypeVar

from .config import Alias
from .describing import describe, shown
from .errors import JobLoadError, UnknownJob
from .handlers import Handler, JobOptions, mark_of, qualified_name
from .names import is_name

__all__ = ["AliasRegistry", "load_module", "load_object"]

Loaded = TypeVar("Loaded")


class AliasRegistry:
    """The jobs that may run here: marked ones in the listed modules, and aliases.

    Everything is imported when the registry is made; a name that comes over the network is
    only ever looked up.

    Args:
        aliases: names and what they call, such as ``{"sync": "lib.sync"}``.
        modules: modules whose ``@job``s may run. Packages are not walked.

    Raises:
        JobLoadError: a module or target does not load, or two objects share a name.
    """

    def __init__(
        self,
        aliases: Mapping[str, Alias | str | Callable[..., object]] | None = None,
        modules: Sequence[str] = (),
    ) -> None:
        self._handlers: dict[str, Handler] = {}
        for module in modules:
            for handler in _marked(load_module(module)):
                self._add(handler.name, handler)
                self._add(qualified_name(handler.target), handler)
        for name, alias in (aliases or {}).items():
            self._add(name, _aliased(name, alias))

    def resolve(self, name: str) -> Handler:
        """The handler for a name.

        Raises:
            UnknownJob: nothing is registered for it.
        """
        try:
            return self._handlers[name]
        except (KeyError, TypeError):  # what cannot be hashed names nothing either
            raise UnknownJob(name) from None

    def names(self) -> tuple[str, ...]:
        """Every name that may be asked for, sorted."""
        return tuple(sorted(self._handlers))

    def handlers(self) -> tuple[Handler, ...]:
        """Every handler once, by its first name."""
        unique = {id(handler): handler for handler in self._handlers.values()}
        return tuple(sorted(unique.values(), key=lambda handler: handler.name))

    def _add(self, name: str, handler: Handler) -> None:
        if not is_name(name):
            raise JobLoadError(f"{name!r} cannot name a job", name)
        known = self._handlers.get(name, handler)
        if known.target is not handler.target:
            raise JobLoadError(
                f"the job name {name!r} belongs to both {qualified_name(known.target)} and"
                f" {qualified_name(handler.target)}: rename one",
                name,
            )
        # An alias comes last: its options win over those that the code has for this name.
        self._handlers[name] = handler


def load_module(name: str) -> ModuleType:
    """The module, imported.

    Raises:
        JobLoadError: it cannot be; the error is the cause.
    """
    return _loaded(importlib.import_module, name, f"the module {name!r} does not import")


def load_object(name: str) -> object:
    """What ``package.module:object`` or ``package.module.object`` names.

    Raises:
        JobLoadError: it cannot be loaded; the error is the cause.
    """
    return _loaded(pkgutil.resolve_name, name, f"{name!r} cannot be loaded")


def _loaded(load: Callable[[str], Loaded], name: str, trouble: str) -> Loaded:
    try:
        return load(name)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and _ctrl_c_interrupts():
            raise
        raise JobLoadError(f"{trouble}: {describe(error)}", name) from error


def _ctrl_c_interrupts() -> bool:
    """Whether SIGINT raises KeyboardInterrupt here: then that comes from the user.

    Where a program handles SIGINT itself, as workers and servers do, only the code that is
    loaded can have raised it.
    """
    return signal.getsignal(signal.SIGINT) is signal.default_int_handler


def _marked(module: ModuleType) -> Iterator[Handler]:
    for target in vars(module).values():
        mark = mark_of(target)
        if mark is not None:
            yield Handler(mark.name or qualified_name(target), target, mark.options)


def _aliased(name: str, alias: Alias | str | Callable[..., object]) -> Handler:
    call = alias.call if isinstance(alias, Alias) else alias
    target = load_object(call) if isinstance(call, str) else call
    if not callable(target):
        raise JobLoadError(f"the alias {name!r} names {shown(call)}, which cannot be called", name)
    if isinstance(target, type) and not callable(getattr(target, "handle", None)):
        raise JobLoadError(f"the alias {name!r} names a class without a handle() method", name)
    return Handler(name, target, _options(target, alias))


def _options(target: object, alias: object) -> JobOptions:
    """The options that an alias sets; the others are as the mark says."""
    mark = mark_of(target)
    options = mark.options if mark else JobOptions()
    if not isinstance(alias, Alias):
        return options
    return replace(options, **alias.options())
