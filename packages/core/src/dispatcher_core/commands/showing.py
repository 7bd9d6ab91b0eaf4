"""How the status of a job or a batch is shown."""

import json
from typing import TypeAlias

from ..batch_wire import encode_batch_status
from ..printing import print_json, print_pairs
from ..status import BatchStatus, JobStatus, Progress
from ..wire import encode_status, format_time

__all__ = ["Status", "bad_ends", "print_status", "print_status_json", "print_step"]

Status: TypeAlias = JobStatus | BatchStatus

_MOST_IDS = 5


def print_status(status: Status) -> None:
    """Print what is known of a job or batch, for people."""
    rows = _job_rows(status) if isinstance(status, JobStatus) else _batch_rows(status)
    print_pairs({name: text for name, text in rows.items() if text is not None})


def print_status_json(status: Status) -> None:
    """Print the members of the wire format, in one line."""
    if isinstance(status, JobStatus):
        print_json(encode_status(status))
    else:
        print_json(encode_batch_status(status))


def print_step(status: Status) -> None:
    """Print in one line how far a job or batch is."""
    parts: tuple[str | None, ...]
    if isinstance(status, JobStatus):
        parts = (_state(status), f"attempt {status.attempt}", _progress(status.progress))
    else:
        parts = (status.state, _progress(status.progress), bad_ends(status))
    print(", ".join(part for part in parts if part), flush=True)


def bad_ends(status: BatchStatus) -> str:
    """How many of the batch's jobs have failed or were cancelled, empty where none was."""
    counts = {"failed": status.failed, "cancelled": status.cancelled}
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def _job_rows(status: JobStatus) -> dict[str, str | None]:
    return {
        "id": status.id,
        "job": status.job,
        "queue": status.queue,
        "state": _state(status),
        "batch": status.batch_id,
        "attempt": str(status.attempt),
        "created": format_time(status.created_at),
        "available": format_time(status.available_at) if status.state == "scheduled" else None,
        "started": format_time(status.started_at),
        "finished": format_time(status.finished_at),
        "progress": _progress(status.progress),
        "result": json.dumps(status.result) if status.state == "succeeded" else None,
        "error": _error(status),
    }


def _batch_rows(status: BatchStatus) -> dict[str, str | None]:
    return {
        "batch": status.id,
        "state": status.state,
        "progress": _progress(status.progress),
        "succeeded": str(status.succeeded),
        "failed": str(status.failed),
        "cancelled": str(status.cancelled),
        "created": format_time(status.created_at),
        "finished": format_time(status.finished_at),
        "then": status.then_id,
        "catch": status.catch_id,
        "finally": status.finally_id,
        "failed ids": _failed_ids(status),
    }


def _failed_ids(status: BatchStatus) -> str | None:
    shown = " ".join(status.failed_ids[:_MOST_IDS])
    more = status.failed - min(_MOST_IDS, len(status.failed_ids))
    return f"{shown} and {more} more" if shown and more > 0 else shown or None


def _state(status: JobStatus) -> str:
    asked = status.cancel_requested and status.state == "running"
    return f"{status.state} (asked to stop)" if asked else status.state


def _progress(progress: Progress | None) -> str | None:
    if progress is None:
        return None
    return f"{progress.done}/{progress.total} ({progress.percent} %)"


def _error(status: JobStatus) -> str | None:
    if status.error is None:
        return None
    parts = (status.error.code, status.error.type, status.error.message)
    return ": ".join(part for part in parts if part)
