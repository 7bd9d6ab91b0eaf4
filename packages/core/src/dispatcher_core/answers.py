"""What the answers of a backend mean."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TypeVar

from .batch_wire import decode_batch_status
from .errors import BatchFault, DeliveryError, NotFound
from .jsontext import load
from .names import is_id
from .protocols import Response
from .result import Result
from .status import BATCH_STATES, STATES, BatchStatus, JobStatus, Pong
from .wire import decode_status, parse_time

__all__ = [
    "CHECK_URL",
    "RETRYABLE",
    "accepted",
    "accepted_batch",
    "answer_of",
    "batch_status",
    "job_status",
    "pong",
    "retry_after",
]

RETRYABLE = frozenset((408, 425, 429, 500, 502, 503, 504))
"""The HTTP statuses after which another try may end better."""

CHECK_URL = "check that the backend's URL is the one where its receiver is mounted"
"""What to do about an answer that no receiver gives."""

_CODE = re.compile(r"[a-z][a-z-]{0,39}")
_SECONDS = re.compile(r"[0-9]{1,9}", re.ASCII)
_MAX_TEXT = 500
_FAULTS_TOLD = 3
_AGAIN = "try again later (a dispatch with the same id stays one job)"

Status = TypeVar("Status", JobStatus, BatchStatus)

# What to do, seen from this side; of all other problems the backend's own words say it.
_ADVICE = {
    "bad-signature": "check that both sides have the same secret",
    "timestamp-out-of-range": "the clocks differ too much: set those of both machines",
    "not-found": CHECK_URL,
    "method-not-allowed": CHECK_URL,
    "queue-full": f"too many jobs wait there: {_AGAIN}",
    "unavailable": f"its queue cannot be used for now: {_AGAIN}",
    "internal": f"it failed, and its log says how: {_AGAIN}",
}


def answer_of(response: Response, now: float) -> dict[str, object]:
    """The JSON object of an answer that says yes.

    Args:
        response: the answer.
        now: the time in Unix seconds, to read a date in ``Retry-After``.

    Raises:
        DeliveryError: it says no, or is no answer of a receiver.
    """
    if response.status not in (200, 202):
        raise _refusal(response, now)
    try:
        answer = load(response.body)
    except ValueError as error:
        raise _bad_answer(response, str(error)) from None
    if not isinstance(answer, dict):
        raise _bad_answer(response, "it is not a JSON object")
    return answer


def accepted(id: str, response: Response, now: float) -> Result:
    """The result of a dispatch: the answer must name the id, and a state.

    Raises:
        DeliveryError: it says no, or is no answer to this dispatch.
    """
    return _result(id, (id,), STATES, response, answer_of(response, now))


def accepted_batch(id: str, ids: tuple[str, ...], response: Response, now: float) -> Result:
    """The result of the dispatch of a batch: the answer must name the jobs' ids too.

    Args:
        id: of the batch.
        ids: of the jobs, as they were sent. A batch that the backend knew already may have
            others, which it then tells.
        response: the answer.
        now: the time in Unix seconds.

    Raises:
        DeliveryError: it says no, or is no answer to this dispatch.
    """
    answer = answer_of(response, now)
    told = answer.get("ids")
    if not isinstance(told, list) or not all(isinstance(it, str) and is_id(it) for it in told):
        raise _bad_answer(response, 'it has no "ids" of jobs')
    result = _result(id, tuple(told), BATCH_STATES, response, answer)
    if result.ids != ids and not result.duplicate:
        raise _bad_answer(response, "it is about other jobs")
    return result


def job_status(id: str, response: Response, now: float) -> JobStatus:
    """The job's status in an answer.

    Raises:
        NotFound: the backend knows no such job.
        DeliveryError: it says no, or is no answer to this question.
    """
    return _status("job", decode_status, id, response, now)


def batch_status(id: str, response: Response, now: float) -> BatchStatus:
    """The batch's status in an answer.

    Raises:
        NotFound: the backend knows no such batch.
        DeliveryError: it says no, or is no answer to this question.
    """
    return _status("batch", decode_batch_status, id, response, now)


def pong(response: Response, now: float) -> Pong:
    """What the answer to a ping tells, also one that refuses our signature.

    Raises:
        DeliveryError: it says no for another reason, or is no answer to a ping.
    """
    problem = _problem(response)
    if response.status == 401 and problem:
        return Pong(
            reachable=True,
            secret_accepted=False,
            clock_skew=_skew(problem.get("time"), now),
            error=str(_refusal(response, now)),
        )
    answer = answer_of(response, now)
    versions, workers = answer.get("versions"), answer.get("workers")
    if not isinstance(versions, list) or not all(type(version) is int for version in versions):
        raise _bad_answer(response, 'it has no "versions"')
    return Pong(
        reachable=True,
        secret_accepted=True,
        clock_skew=_skew(answer.get("time"), now),
        workers=workers if type(workers) is int else None,
        versions=tuple(versions),
    )


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds after which an answer asks to be tried again, None if it does not say.

    RFC 9110, section 10.2.3: whole seconds, or a date.
    """
    text = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError, IndexError):  # the parser lets all of these pass
        return None
    # "-0000" gives a time without zone, which is in UTC all the same.
    aware = date if date.tzinfo is not None else date.replace(tzinfo=UTC)
    return max(0.0, aware.timestamp() - now)


def _result(
    id: str,
    ids: tuple[str, ...],
    states: Set[str],
    response: Response,
    answer: Mapping[str, object],
) -> Result:
    if answer.get("id") != id:
        raise _bad_answer(response, "it is about another id")
    state = answer.get("state")
    if not isinstance(state, str) or state not in states:
        raise _bad_answer(response, "it has no state that is known here")
    duplicate = answer.get("duplicate") is True
    return Result(id=id, ids=ids, state=state, duplicate=duplicate, response=answer)


def _status(
    what: str,
    decode: Callable[[Mapping[str, object]], Status],
    id: str,
    response: Response,
    now: float,
) -> Status:
    try:
        status = decode(answer_of(response, now))
    except ValueError as error:
        raise _bad_answer(response, str(error)) from None
    except DeliveryError as error:
        if error.code == "not-found":
            raise NotFound(f"the backend knows no {what} by the id {id}") from None
        raise
    if status.id != id:
        raise _bad_answer(response, "it is about another id")
    return status


def _refusal(response: Response, now: float) -> DeliveryError:
    if 200 <= response.status < 300:
        return _bad_answer(response, "its status is not one that a receiver answers")
    problem = _problem(response)
    code = str(problem.get("code", "rejected"))
    outcome = f"the backend answered {response.status}" + f" {code}" * bool(problem)
    faults = tuple(_faults(problem.get("errors")))
    parts = (outcome, _reason(response, problem), _told(faults))
    return DeliveryError(
        ": ".join(part for part in parts if part),
        code,
        status=response.status,
        retry_after=retry_after(response.headers, now),
        errors=faults,
    )


def _reason(response: Response, problem: Mapping[str, object]) -> str:
    if problem:
        return _ADVICE.get(str(problem["code"])) or _readable(problem.get("detail"))
    if 300 <= response.status < 400:
        return _redirection(response)
    if response.status in RETRYABLE:
        return f"its server says so, or a proxy before it, whose log may say why: {_AGAIN}"
    return f"a receiver would say why, so something before it answered: {CHECK_URL}"


def _redirection(response: Response) -> str:
    target = _readable(response.headers.get("location")) or "nowhere"
    return f"it redirects to {target}: if that is right, make it the backend's URL"


def _faults(errors: object) -> Iterator[BatchFault]:
    """The jobs that a problem document lists as faulty; what is no such entry is skipped."""
    for error in errors if isinstance(errors, list) else ():
        if isinstance(error, dict) and isinstance(at := error.get("at"), int | str):
            place = _readable(at) if isinstance(at, str) else at
            yield BatchFault(place, _readable(error.get("code")), _readable(error.get("detail")))


def _told(faults: Sequence[BatchFault]) -> str:
    """The first faults in words."""
    told = [f"{_place(fault)}: {fault.detail or fault.code}" for fault in faults[:_FAULTS_TOLD]]
    more = len(faults) - len(told)
    return "; ".join(told + [f"and {more} more"] * bool(more))


def _place(fault: BatchFault) -> str:
    return f"jobs[{fault.at}]" if isinstance(fault.at, int) else fault.at


def _problem(response: Response) -> dict[str, object]:
    """The members of a problem document (RFC 9457) with a code; empty for any other answer."""
    media_type = response.headers.get("content-type", "").partition(";")[0]
    if media_type.strip().lower() != "application/problem+json":
        return {}
    try:
        problem = load(response.body)
    except ValueError:
        return {}
    code = problem.get("code") if isinstance(problem, dict) else None
    if not isinstance(problem, dict) or not isinstance(code, str) or not _CODE.fullmatch(code):
        return {}
    return problem


def _bad_answer(response: Response, why: str) -> DeliveryError:
    return DeliveryError(
        f"the backend answered {response.status}, but {why}: {CHECK_URL}",
        "bad-answer",
        status=response.status,
    )


def _readable(text: object) -> str:
    """Text of the other side, short, and unable to forge a line of a log."""
    if not isinstance(text, str):
        return ""
    return "".join(char if char.isprintable() else " " for char in text[:_MAX_TEXT]).strip()


def _skew(time: object, now: float) -> float | None:
    """Seconds by which the other clock is ahead."""
    try:
        told = parse_time(time)
    except ValueError:
        return None
    return None if told is None else told.timestamp() - now
