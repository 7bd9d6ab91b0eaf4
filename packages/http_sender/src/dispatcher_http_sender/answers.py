"""Reading an answer, whatever its status, up to a limit and a deadline."""

from collections.abc import Iterable, Mapping
from http.client import IncompleteRead
from typing import Protocol

from dispatcher_core.protocols import Response

from .deadline import Deadline
from .failures import bad_answer

__all__ = ["MAX_BODY", "Answer", "Header", "read_answer"]

MAX_BODY = 1024 * 1024
_PIECE = 64 * 1024


class Header(Protocol):
    """The fields of a header."""

    def items(self) -> Iterable[tuple[str, str]]: ...


class Answer(Protocol):
    """What the answers of urllib, also as errors, and of urllib3 have in common."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Header: ...

    def read1(self, size: int, /) -> bytes: ...

    def close(self) -> None: ...


def read_answer(answer: Answer, place: str, deadline: Deadline) -> Response:
    """The whole answer.

    Raises:
        SendFailed: ``bad-answer``: its body is over 1 MiB, or it is an interim one. The final
            one would come after it, and be taken for the answer to the next request.
        IncompleteRead: it was cut off.
        OSError: the connection broke. A TimeoutError past the deadline.
    """
    if answer.status < 200:
        raise bad_answer(
            place,
            f"is the interim {answer.status}, which its HTTP client cannot skip: use the sender"
            " 'urllib' with its own opener",
        )
    body = bytearray()
    while piece := answer.read1(_PIECE):
        body += piece
        if len(body) > MAX_BODY:
            raise bad_answer(place, f"is longer than {MAX_BODY} bytes")
        # What a caller's own opener or session gave may know no deadline.
        deadline.remaining()
    missing = getattr(answer, "length", None)
    if missing:
        raise IncompleteRead(bytes(body), missing)
    return Response(answer.status, _fields(answer.headers), bytes(body))


def _fields(headers: Header) -> Mapping[str, str]:
    fields: dict[str, str] = {}
    for name, value in headers.items():
        # RFC 9112, section 5.2: a folded line is one with blanks.
        line = " ".join(str(value).split())
        key = name.lower()
        # RFC 9110, section 5.3: fields of one name are one list.
        fields[key] = f"{fields[key]}, {line}" if key in fields else line
    return fields
