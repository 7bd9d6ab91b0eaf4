"""What a worker process is told."""

from dispatcher_core.config import Alias
from dispatcher_local_queue.spec import WorkerSpec, WorkSettings


def test_a_spec_survives_the_command_line() -> None:
    """Whatever a supervisor tells, its worker process hears."""
    aliases = {
        "sync": Alias("lib.sync", tries=3, backoff=(1.0, 2.5), timeout=60.0),
        "plain": Alias("lib:plain", backoff=4.0),
        "bare": Alias("lib.bare"),
    }
    settings = WorkSettings(
        database="/srv/ä b/q.sqlite3",
        queues=("a", "b"),
        app_dir="/srv",
        modules=("shop", "shop.more"),
        aliases=aliases,
        lifespan="shop:life",
        around_job="shop:around",
        burst=True,
        max_jobs=5,
        max_time=1.5,
        log_format="json",
        log_level="DEBUG",
    )
    spec = WorkerSpec(
        settings=settings, worker_id="w", supervisor_id="s", slot=1, memory=3, leash=4, report=5
    )
    assert WorkerSpec.from_json(spec.to_json()) == spec


def test_what_is_imported() -> None:
    """Hooks, modules and aliases are imported, in this order."""
    settings = WorkSettings(
        database="/q",
        modules=("shop", "shop.more"),
        aliases={"sync": Alias("lib.sync")},
        around_job="hooks:around",
    )
    assert settings.imported == ("hooks:around", "shop", "shop.more", "lib.sync")
    assert WorkSettings(database="/q").imported == ()
