"""The commands ``dispatcher work`` and ``dispatcher health``."""

import argparse
import logging
import os
from dataclasses import asdict
from importlib.metadata import version

from dispatcher_core.arguments import folder, seconds, some_seconds, whole
from dispatcher_core.command import Command
from dispatcher_core.config import Config
from dispatcher_core.printing import print_json, warn

from .arguments import add_json, queue_names
from .database import Database
from .health import check_health
from .logs import set_up_logging
from .queue import path_of
from .spec import WorkSettings
from .supervisor import Supervisor

__all__ = ["health", "work"]

logger = logging.getLogger("dispatcher.supervisor")

_MOST_PROCESSES = 4
_SHUTDOWN_TIMEOUT = 25.0  # just under the 30 s after which Kubernetes kills


def _configure_work(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--queues",
        type=queue_names,
        default=(),
        metavar="A,B",
        help="the queues to serve, in this order (default: every queue, `default` first)",
    )
    parser.add_argument(
        "--processes",
        type=whole(1, 1000),
        default=_usable_processes(),
        metavar="N",
        help="worker processes; each runs one job at a time (default: %(default)s)",
    )
    parser.add_argument("--burst", action="store_true", help="end when nothing waits")
    parser.add_argument(
        "--max-jobs", type=whole(1), metavar="N", help="replace a process after N jobs"
    )
    parser.add_argument(
        "--max-time", type=some_seconds, metavar="S", help="replace a process after S seconds"
    )
    parser.add_argument(
        "--max-memory",
        type=whole(1),
        metavar="MIB",
        help="replace a process after a job that left it with more memory than that",
    )
    parser.add_argument(
        "--shutdown-timeout",
        type=seconds,
        default=_SHUTDOWN_TIMEOUT,
        metavar="S",
        help="seconds that running jobs may take after TERM or INT (default: %(default).0f)",
    )
    parser.add_argument(
        "--app-dir",
        type=folder,
        default=".",
        metavar="DIR",
        help="the folder that comes first on sys.path (default: the current one)",
    )
    parser.add_argument("--log-format", choices=("text", "json"), default="text")
    level = parser.add_mutually_exclusive_group()
    level.add_argument("-v", dest="level", action="store_const", const="DEBUG", help="log more")
    level.add_argument("-q", dest="level", action="store_const", const="WARNING", help="log less")
    parser.set_defaults(level="INFO")


def _run_work(arguments: argparse.Namespace) -> int:
    config = Config.load()
    settings = WorkSettings(
        database=str(path_of(config.queue_url).absolute()),
        queues=arguments.queues,
        app_dir=str(arguments.app_dir),
        modules=tuple(config.modules),
        aliases=config.aliases,
        lifespan=config.lifespan,
        around_job=config.around_job,
        burst=arguments.burst,
        max_jobs=arguments.max_jobs,
        max_time=arguments.max_time,
        max_memory=arguments.max_memory,
        retention=config.retention,
        log_format=arguments.log_format,
        log_level=arguments.level,
    )
    set_up_logging(settings.log_format, logging.getLevelName(settings.log_level))
    logger.info(
        "dispatcher %s, queue %s, serving %s, %d processes",
        version("dispatcher-local-queue"),
        config.queue_url,
        ", ".join(settings.queues) or "every queue",
        arguments.processes,
    )
    supervisor = Supervisor(
        settings,
        processes=arguments.processes,
        shutdown_timeout=arguments.shutdown_timeout,
    )
    return supervisor.run()


def _run_health(arguments: argparse.Namespace) -> int:
    found = check_health(Database(path_of(Config.load().queue_url), durable=False))
    if arguments.json:
        print_json({"status": "unavailable" if found.error else "ok", **asdict(found)})
    elif found.error:
        warn(found.error)
    else:
        print(f"ok: {found.supervisors} supervisor(s), {found.workers} worker process(es) alive")
    return 1 if found.error else 0


def _usable_processes() -> int:
    usable = getattr(os, "sched_getaffinity", None)
    return min(_MOST_PROCESSES, len(usable(0)) if usable else os.cpu_count() or 1)


work = Command(
    help="run the jobs of the queue in worker processes",
    example="dispatcher work --queues emails,default --processes 4",
    configure=_configure_work,
    run=_run_work,
)

health = Command(
    help="say whether the queue opens and its jobs are being run",
    example="dispatcher health --json",
    configure=add_json,
    run=_run_health,
)
