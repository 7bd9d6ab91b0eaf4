"""Which path and method ask for what."""

from dataclasses import dataclass
from typing import Literal

from dispatcher_core.names import is_id

from .problems import Refusal

__all__ = ["Operation", "Route", "match"]

Operation = Literal["dispatch", "status", "cancel", "ping", "health"]

_PATHS: dict[str, dict[str, Operation]] = {
    "/dispatch": {"POST": "dispatch"},
    "/ping": {"GET": "ping"},
    "/health": {"GET": "health"},
}
_JOBS = "/jobs/"
_JOB: dict[str, Operation] = {"GET": "status", "DELETE": "cancel"}


@dataclass(frozen=True, slots=True)
class Route:
    """What a request asks for.

    Attributes:
        operation: what is to be done.
        method: the HTTP method.
        path: the path, relative to where the receiver is mounted; it is what a request
            without a body signs.
        job_id: the id in the path, empty where the path has none.
    """

    operation: Operation
    method: str
    path: str
    job_id: str = ""


def match(method: str, path: str, query: str) -> Route:
    """The route of a request.

    Nothing is normalised: a path that is not written as in the wire format is unknown.

    Args:
        method: the HTTP method.
        path: the decoded path, as WSGI gives it.
        query: what follows the question mark.

    Raises:
        Refusal: ``not-found``, ``method-not-allowed``, or ``malformed`` for a query.
    """
    operations, job_id = _find(path)
    if method not in operations:
        allowed = ", ".join(operations)
        raise Refusal(f"use {allowed} here", "method-not-allowed", (("Allow", allowed),))
    if query:
        raise Refusal("a query is not signed, so none is taken", "malformed")
    return Route(operations[method], method, path, job_id)


def _find(path: str) -> tuple[dict[str, Operation], str]:
    if path in _PATHS:
        return _PATHS[path], ""
    job_id = path.removeprefix(_JOBS)
    if path.startswith(_JOBS) and is_id(job_id):
        return _JOB, job_id
    raise Refusal("there is nothing at this path", "not-found")
