"""What the receiver answers, up to the moment when the server takes it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from wsgiref.types import StartResponse

from dispatcher_core.wire import format_time

__all__ = ["Answer", "time_text"]


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer with a JSON object in it.

    Attributes:
        status: the HTTP status.
        content: the members of the object.
        media_type: what kind of JSON it is.
        headers: header fields besides those that every answer has.
        is_last: whether its connection should serve no other request, because this one may not
            have been read whole.
    """

    status: int
    content: Mapping[str, object]
    media_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    is_last: bool = False

    def send(self, start_response: StartResponse, method: str) -> list[bytes]:
        """Hand the answer to the server; what is returned is the body.

        An answer to HEAD tells the length of its body and leaves the body out (RFC 9110,
        section 9.3.2).

        Raises:
            ValueError: the content is no JSON.
        """
        # Escapes instead of UTF-8: a lone surrogate in an error's message can still be sent.
        body = json.dumps(self.content, separators=(",", ":"), allow_nan=False).encode("ascii")
        headers = [
            ("Content-Type", self.media_type),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            *self.headers,
        ]
        start_response(f"{self.status} {HTTPStatus(self.status).phrase}", headers)
        return [] if method == "HEAD" else [body]


def time_text(now: float) -> str | None:
    """A time in Unix seconds as the wire format writes it."""
    return format_time(datetime.fromtimestamp(now, UTC))
