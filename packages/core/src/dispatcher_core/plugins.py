"""Plugins: one is loaded, the one that configuration names."""

from importlib.metadata import EntryPoint, entry_points

from .describing import describe
from .errors import PluginNotFound

__all__ = ["COMMANDS", "QUEUES", "SENDERS", "load_plugin", "plugin_names"]

COMMANDS = "dispatcher.commands"
QUEUES = "dispatcher.queues"
SENDERS = "dispatcher.senders"

_KINDS = {
    COMMANDS: ("command", ""),
    QUEUES: (
        "queue",
        "; DISPATCHER_QUEUE_URL begins with one of them, as in sqlite:///relative/path",
    ),
    SENDERS: ("sender", "; DISPATCHER_SENDER names one of them"),
}
_PACKAGES = {
    (SENDERS, "urllib"): "dispatcher-http-sender",
    (SENDERS, "requests"): "dispatcher-http-sender[requests]",
    (COMMANDS, "serve"): "dispatcher-wsgi-receiver",
    (COMMANDS, "work"): "dispatcher-local-queue",
    (COMMANDS, "health"): "dispatcher-local-queue",
    (COMMANDS, "queue"): "dispatcher-local-queue",
    (QUEUES, "sqlite"): "dispatcher-local-queue",
    (QUEUES, "celery"): "dispatcher-celery-queue",
}


def load_plugin(group: str, name: str) -> object:
    """The object that the entry point of this name stands for.

    Raises:
        PluginNotFound: none is installed; the message lists those that are, and what to
            install.
    """
    for point in entry_points(group=group, name=name):
        return _load(point)
    installed = plugin_names(group)
    package = _PACKAGES.get((group, name))
    hint = f"pip install {package!r}" if package else "is it misspelled or not installed?"
    kind, where = _KINDS[group]
    known = ", ".join(installed) or "none"
    raise PluginNotFound(
        f"there is no {kind} {name!r}: {hint} (installed: {known}{where if installed else ''})",
        name,
        installed,
    )


def plugin_names(group: str) -> tuple[str, ...]:
    """The names of the group's entry points, sorted."""
    return tuple(sorted({point.name for point in entry_points(group=group)}))


def _load(point: EntryPoint) -> object:
    try:
        return point.load()
    except Exception as error:
        raise PluginNotFound(
            f"the plugin {point.name!r} ({point.value}) does not load: {describe(error)}",
            point.name,
            (),
        ) from error
