"""``dispatcher dispatch``: have the backend run a job."""

import argparse
import sys
from pathlib import Path

from ..arguments import seconds, whole
from ..command import Command
from ..dispatcher import Dispatcher
from ..errors import InvalidJob, WaitTimeout
from ..jobs import MAX_PRIORITY
from ..jsontext import load
from ..printing import print_json, warn
from ..result import Result
from ..status import JobStatus
from ..wire import MAX_JOB_BODY, encode_status
from .sending import add_backend, add_json, dispatcher_of
from .showing import print_status

__all__ = ["command"]


def _configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("job", metavar="JOB", help="the name of the job")
    add("--payload", metavar="JSON", help="an object; @file reads a file, - the standard input")
    add("--queue", metavar="Q", default="default", help="the queue to put it in (%(default)s)")
    add("--delay", metavar="S", type=seconds, help="seconds before it may start")
    add(
        "--priority",
        metavar="N",
        type=whole(-MAX_PRIORITY, MAX_PRIORITY),
        default=0,
        help=f"-{MAX_PRIORITY} to {MAX_PRIORITY} (%(default)s)",
    )
    add("--id", help="what identifies it; by default a fresh one")
    add("--wait", action="store_true", help="wait until the job ended, and show how")
    add("--timeout", metavar="S", type=seconds, help="seconds to wait at most")
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
    if arguments.wait and result.ok:
        wait = _wait_for_program if arguments.json else _wait_for_people
        status = wait(dispatcher, result, arguments.timeout)
        return 0 if status.state == "succeeded" else 1
    if arguments.json:
        print_json(_facts(result))
    else:
        print(result.id)
    if result.error is None:
        return 0
    warn(f"{result.error} (--id {result.id} sends the same job again)")
    return 1


def _wait_for_people(dispatcher: Dispatcher, result: Result, timeout: float | None) -> JobStatus:
    print(result.id, flush=True)
    status = dispatcher.wait(result.id, timeout)
    print_status(status)
    return status


def _wait_for_program(dispatcher: Dispatcher, result: Result, timeout: float | None) -> JobStatus:
    """Print one object, also where the waiting is cut short: it has the id."""
    facts = _facts(result)
    try:
        status = dispatcher.wait(result.id, timeout)
        facts |= encode_status(status)
    except WaitTimeout as error:
        if isinstance(error.status, JobStatus):
            facts |= encode_status(error.status)
        raise
    finally:
        print_json(facts)
    return status


def _facts(result: Result) -> dict[str, object]:
    error = result.error
    return {
        "id": result.id,
        "state": result.state,
        "duplicate": result.duplicate,
        "error": None if error is None else {"code": error.code, "message": str(error)},
    }


def _payload(text: str | None) -> dict[str, object] | None:
    if text is None:
        return None
    try:
        payload = load(_payload_bytes(text))
    except OSError as error:
        source = "the standard input" if text == "-" else repr(text[1:])
        raise InvalidJob(f"--payload: cannot read {source}: {error.strerror}") from None
    except ValueError as error:
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
