"""``dispatcher dispatch``: have the backend run a job."""

import argparse
import sys
from pathlib import Path

from ..command import Command
from ..errors import InvalidJob
from ..jsontext import load
from ..result import Result
from ..status import JobStatus
from ..wire import MAX_JOB_BODY
from .sending import add_backend, add_json, dispatcher_of, print_json, warn
from .showing import print_status, print_status_json

__all__ = ["command"]


def _configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("job", metavar="JOB", help="the name of the job")
    add("--payload", metavar="JSON", help="an object; @file reads a file, - the standard input")
    add("--queue", metavar="Q", default="default", help="the queue to put it in (%(default)s)")
    add("--delay", metavar="S", type=float, help="seconds before it may start")
    add("--priority", metavar="N", type=int, default=0, help="-100 to 100 (%(default)s)")
    add("--id", help="what identifies it; by default a fresh one")
    add("--wait", action="store_true", help="wait until the job ended, and show how")
    add("--timeout", metavar="S", type=float, help="seconds to wait at most")
    add_json(parser)
    add_backend(parser)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.timeout is not None and not arguments.wait:
        raise InvalidJob("--timeout is for --wait: how long to wait for the job's end")
    dispatcher = dispatcher_of(arguments)
    result = dispatcher.dispatch(
        arguments.job,
        _payload(arguments.payload),
        arguments.queue,
        delay=arguments.delay,
        priority=arguments.priority,
        id=arguments.id,
    )
    _print_result(result, as_json=arguments.json)
    if result.error is not None:
        warn(f"{result.error} (--id {result.id} sends the same job again)")
        return 1
    if not arguments.wait:
        return 0
    return _print_end(dispatcher.wait(result.id, arguments.timeout), as_json=arguments.json)


def _print_result(result: Result, *, as_json: bool) -> None:
    if not as_json:
        print(result.id, flush=True)
        return
    error = result.error
    print_json(
        {
            "id": result.id,
            "state": result.state,
            "duplicate": result.duplicate,
            "error": None if error is None else {"code": error.code, "message": str(error)},
        }
    )


def _print_end(status: JobStatus, *, as_json: bool) -> int:
    if as_json:
        print_status_json(status)
    else:
        print_status(status)
    return 0 if status.state == "succeeded" else 1


def _payload(text: str | None) -> dict[str, object] | None:
    if text is None:
        return None
    try:
        payload = load(_payload_bytes(text))
    except (ValueError, OSError) as error:
        raise InvalidJob(f"--payload: {error}") from None
    if not isinstance(payload, dict):
        raise InvalidJob('--payload must be a JSON object, such as {"user_id": 7}')
    return payload


def _payload_bytes(text: str) -> bytes:
    # One byte over the limit is enough to see that it is over.
    if text == "-":
        return _within_limit(sys.stdin.buffer.read(MAX_JOB_BODY + 1))
    if text.startswith("@"):
        with Path(text[1:]).open("rb") as file:
            return _within_limit(file.read(MAX_JOB_BODY + 1))
    return text.encode("utf-8", "surrogateescape")


def _within_limit(data: bytes) -> bytes:
    if len(data) > MAX_JOB_BODY:
        raise ValueError(f"it is over the limit of {MAX_JOB_BODY} bytes")
    return data


command = Command(
    help="have the backend run a job",
    example="example: dispatcher dispatch send-welcome-email --payload '{\"user_id\": 7}' --wait",
    configure=_configure,
    run=_run,
)
