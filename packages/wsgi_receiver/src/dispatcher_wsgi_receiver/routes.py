"""Which path and method ask for what."""

from dataclasses import dataclass
from typing import Literal

from dispatcher_core.names import is_id

from .problems import Refusal

__all__ = ["Operation", "Route", "match"]

Operation = Literal[
    "dispatch",
    "dispatch-batch",
    "job-status",
    "cancel-job",
    "batch-status",
    "cancel-batch",
    "ping",
    "health",
]

_PATHS: dict[str, dict[str, Operation]] = {
    "/dispatch": {"POST": "dispatch"},
    "/dispatch/batch": {"POST": "dispatch-batch"},
    "/ping": {"GET": "ping"},
    "/health": {"GET": "health"},
}
_FOLDERS: dict[str, dict[str, Operation]] = {
    "/jobs": {"GET": "job-status", "DELETE": "cancel-job"},
    "/batches": {"GET": "batch-status", "DELETE": "cancel-batch"},
}


@dataclass(frozen=True, slots=True)
class Route:
    """What a request asks for.

    Attributes:
        operation: what is to be done.
        method: the HTTP method.
        path: the path, relative to where the receiver is mounted; it is what a request
            without a body signs.
        id: the id in the path, empty where the path has none.
    """

    operation: Operation
    method: str
    path: str
    id: str = ""


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
    operations, found_id = _find(path)
    if method not in operations:
        allowed = ", ".join(operations)
        raise Refusal(f"use {allowed} here", "method-not-allowed", (("Allow", allowed),))
    if query:
        raise Refusal("a query is not signed, so none is taken", "malformed")
    return Route(operations[method], method, path, found_id)


def _find(path: str) -> tuple[dict[str, Operation], str]:
    if path in _PATHS:
        return _PATHS[path], ""
    folder, _, name = path.rpartition("/")
    if folder in _FOLDERS and is_id(name):
        return _FOLDERS[folder], name
    raise Refusal("there is nothing at this path", "not-found")
