"""From the configuration to a receiver that is ready to be called."""

from collections.abc import Callable
from typing import cast

from dispatcher_core.aliases import AliasRegistry
from dispatcher_core.application import load_application
from dispatcher_core.config import Config
from dispatcher_core.plugins import QUEUES, load_plugin
from dispatcher_core.protocols import Queue
from dispatcher_core.signing import Signer

from .receiver import Receiver

__all__ = ["create_app", "open_queue"]


def create_app(
    config: Config | None = None,
    *,
    queue: Queue | None = None,
    registry: AliasRegistry | None = None,
) -> Receiver:
    """The receiver as a WSGI callable, such as gunicorn takes.

    It may be made before a server forks: the queue opens nothing until it is used.

    Args:
        config: the settings; without them, those of ``Config.load()``.
        queue: where jobs go; without it, the one that ``queue_url`` names.
        registry: the jobs that may run; without it, those of ``modules`` and ``aliases``,
            which are imported here, after the modules of the set-up hooks.

    Raises:
        MissingSetting: this is no backend (``is_backend``), or it has no secret.
        JobLoadError: a module, hook or alias of the application does not load.
        ConfigError: another setting is wrong.
    """
    settings = Config.load() if config is None else config
    settings.require("is_backend")
    signer = Signer(settings.require("secret"), settings.previous_secrets)
    return Receiver(
        signer,
        open_queue(settings.queue_url) if queue is None else queue,
        _registry(settings) if registry is None else registry,
        max_queued=settings.max_queued,
    )


def open_queue(url: str) -> Queue:
    """The queue that a URL stands for; its scheme names the plugin.

    Raises:
        PluginNotFound: no installed package offers it.
        ConfigError: the URL is wrong.
    """
    scheme = url.partition(":")[0]
    return cast(Callable[[str], Queue], load_plugin(QUEUES, scheme))(url)


def _registry(config: Config) -> AliasRegistry:
    # The hooks are imported for what their modules set up; only workers enter them.
    return load_application(
        modules=config.modules,
        aliases=config.aliases,
        lifespan=config.lifespan,
        around_job=config.around_job,
    ).registry
