"""The command ``dispatcher queue``: look after the jobs in the queue's file."""

import argparse
import json
import textwrap
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from typing import NamedTuple

from dispatcher_core.arguments import seconds, whole
from dispatcher_core.command import Command
from dispatcher_core.config import Config
from dispatcher_core.errors import ConfigError, QueueError
from dispatcher_core.printing import print_json, print_pairs
from dispatcher_core.status import STATES, JobError, Progress
from dispatcher_core.wire import encode_status, format_time

from .admin import Admin, QueueStats, StoredJob
from .arguments import add_json, job_id, queue_name
from .database import Database
from .memory import MEBIBYTE
from .queue import path_of
from .tables import print_table

__all__ = ["queue"]

_ERROR_WIDTH = 60


class _Action(NamedTuple):
    """One subcommand: what it does, how it is called, its arguments, and the doing."""

    help: str
    example: str
    configure: Callable[[argparse.ArgumentParser], None]
    do: Callable[[Admin, argparse.Namespace], None]


def _configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar=" | ".join(_ACTIONS))
    for name, action in _ACTIONS.items():
        own = actions.add_parser(
            name,
            help=action.help,
            description=f"{action.help[:1].upper()}{action.help[1:]}.",
            epilog=f"example: dispatcher queue {name} {action.example}".rstrip(),
            allow_abbrev=False,
        )
        action.configure(own)
        add_json(own)
        own.set_defaults(do=action.do)


def _run(arguments: argparse.Namespace) -> int:
    database = Database(path_of(Config.load().queue_url), durable=True)
    file = database.files.database
    if not file.exists():
        raise QueueError(f"there is no queue at {file}: the first job, or a worker, makes it")
    with closing(Admin(database)) as admin:
        arguments.do(admin, arguments)
    return 0


def _tell(arguments: argparse.Namespace, facts: Mapping[str, object], text: str) -> None:
    """Print the facts for a program, or the text for people."""
    if arguments.json:
        print_json(facts)
    else:
        print(text)


# Looking


def _stats(admin: Admin, arguments: argparse.Namespace) -> None:
    stats = admin.stats()
    if arguments.json:
        print_json(asdict(stats))
        return
    states = ("queued", "scheduled", "running", "succeeded", "failed", "cancelled")
    if stats.queues:
        rows = [_stats_row(each, states) for each in stats.queues]
        print_table(("queue", *states, "oldest waiting", ""), rows, right=range(1, 8))
        print()
    print_pairs(
        {
            "supervisors": str(stats.supervisors),
            "workers": str(stats.workers),
            "file": _size(stats.file_size),
            "log": _size(stats.log_size),
        }
    )


def _stats_row(stats: QueueStats, states: Sequence[str]) -> Sequence[str]:
    oldest = "-" if stats.oldest_waiting is None else f"{stats.oldest_waiting:.1f} s"
    counts = [str(stats.counts[state]) for state in states]
    return stats.queue, *counts, oldest, "paused" if stats.paused else ""


def _configure_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--state", choices=sorted(STATES), help="only those in this state")
    parser.add_argument("--queue", type=queue_name, metavar="Q", help="only those in this queue")
    parser.add_argument(
        "--limit", type=whole(1), default=50, metavar="N", help="how many at most (%(default)s)"
    )


def _list(admin: Admin, arguments: argparse.Namespace) -> None:
    jobs = admin.jobs(state=arguments.state, queue=arguments.queue, limit=arguments.limit)
    if arguments.json:
        print_json({"jobs": [encode_status(job) for job in jobs]})
        return
    rows = [
        (
            job.id,
            job.job,
            job.queue,
            job.state,
            str(job.attempt),
            format_time(job.created_at) or "",
            textwrap.shorten(_error(job.error) or "", _ERROR_WIDTH, placeholder=" ..."),
        )
        for job in jobs
    ]
    if rows:
        heads = ("id", "job", "queue", "state", "attempt", "created", "error")
        print_table(heads, rows, right=(4,))


def _configure_show(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", type=job_id)
    parser.add_argument("--payload", action="store_true", help="show its payload too")


def _show(admin: Admin, arguments: argparse.Namespace) -> None:
    job = admin.find(arguments.id)
    if job is None:
        raise QueueError(f"there is no job {arguments.id!r}")
    if arguments.json:
        facts = encode_status(job.status) | {"priority": job.priority, "kills": job.kills}
        print_json(facts | ({"payload": job.payload} if arguments.payload else {}))
        return
    rows = _facts(job) | {"payload": json.dumps(job.payload) if arguments.payload else None}
    print_pairs({name: text for name, text in rows.items() if text is not None})


def _facts(job: StoredJob) -> dict[str, str | None]:
    status = job.status
    return {
        "id": status.id,
        "job": status.job,
        "queue": status.queue,
        "priority": str(job.priority),
        "state": status.state,
        "attempt": str(status.attempt),
        "kills": str(job.kills) if job.kills else None,
        "batch": status.batch_id,
        "created": format_time(status.created_at),
        "available": format_time(status.available_at),
        "started": format_time(status.started_at),
        "finished": format_time(status.finished_at),
        "progress": _progress(status.progress),
        "result": json.dumps(status.result) if status.state == "succeeded" else None,
        "error": _error(status.error),
    }


def _progress(progress: Progress | None) -> str | None:
    if progress is None:
        return None
    return f"{progress.done}/{progress.total} ({progress.percent} %)"


def _error(error: JobError | None) -> str | None:
    if error is None:
        return None
    return ": ".join(part for part in (error.code, error.type, error.message) if part)


def _size(number: int) -> str:
    return f"{number / MEBIBYTE:.2f} MiB"


# Changing


def _configure_retry(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "id", metavar="ID", type=job_id, nargs="?", help="a failed or cancelled job"
    )
    which.add_argument("--all", action="store_true", help="every failed job of no batch")
    parser.add_argument("--queue", type=queue_name, metavar="Q", help="with --all: of this queue")


def _retry(admin: Admin, arguments: argparse.Namespace) -> None:
    if arguments.all:
        count = admin.retry_all(arguments.queue)
        _tell(arguments, {"retried": count}, f"failed jobs queued again: {count}")
        return
    if arguments.queue is not None:
        raise ConfigError("--queue goes with --all: a job's id says which job it is")
    admin.retry(arguments.id)
    facts = {"id": arguments.id, "state": "queued"}
    _tell(arguments, facts, f"{arguments.id}: queued again")


def _forget(admin: Admin, arguments: argparse.Namespace) -> None:
    admin.forget(arguments.id)
    facts = {"id": arguments.id, "forgotten": True}
    _tell(arguments, facts, f"{arguments.id}: forgotten")


def _pause(admin: Admin, arguments: argparse.Namespace) -> None:
    already = "" if admin.pause(arguments.queue) else " already"
    facts = {"queue": arguments.queue, "paused": True}
    _tell(arguments, facts, f"queue {arguments.queue} is paused{already}")


def _resume(admin: Admin, arguments: argparse.Namespace) -> None:
    text = "goes on" if admin.resume(arguments.queue) else "was not paused"
    facts = {"queue": arguments.queue, "paused": False}
    _tell(arguments, facts, f"queue {arguments.queue} {text}")


def _configure_prune(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--older-than",
        type=seconds,
        metavar="S",
        help="seconds since they finished, at least 3600 (default: the setting `retention`)",
    )


def _prune(admin: Admin, arguments: argparse.Namespace) -> None:
    given = arguments.older_than
    count = admin.prune(Config.load().retention if given is None else given)
    _tell(arguments, {"pruned": count}, f"finished jobs removed: {count}")


def _configure_id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", type=job_id)


def _configure_queue(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("queue", metavar="Q", type=queue_name)


def _configure_nothing(_parser: argparse.ArgumentParser) -> None:
    """For a subcommand without arguments of its own."""


_ID = "01981a6e-5f4c-7f3e-8f0a-3b1c2d4e5f60"
_ACTIONS = {
    "stats": _Action("count the jobs, and who is alive", "--json", _configure_nothing, _stats),
    "list": _Action("list jobs, newest first", "--state failed", _configure_list, _list),
    "show": _Action("show all that is known of a job", _ID, _configure_show, _show),
    "retry": _Action(
        "queue failed jobs, or a cancelled one, again", "--all", _configure_retry, _retry
    ),
    "forget": _Action("delete the record of a finished job", _ID, _configure_id, _forget),
    "pause": _Action(
        "start no more jobs of a queue; more are accepted", "emails", _configure_queue, _pause
    ),
    "resume": _Action("start jobs of a paused queue again", "emails", _configure_queue, _resume),
    "prune": _Action(
        "remove jobs that succeeded or were cancelled long ago",
        "--older-than 86400",
        _configure_prune,
        _prune,
    ),
}

queue = Command(
    help="look after the jobs in the queue's file",
    example="example: dispatcher queue list --state failed",
    configure=_configure,
    run=_run,
)
