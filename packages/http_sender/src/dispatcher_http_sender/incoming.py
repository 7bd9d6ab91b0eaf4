"""An answer on its way in, read strictly (RFC 9112).

On a kept connection the end of an answer must be beyond doubt, or the rest of it would be taken
for the answer to the next request. Where it is in doubt, the answer is refused, or it is the
last one of its connection.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPMessage, IncompleteRead

from .failures import MalformedAnswer
from .reader import SocketReader

__all__ = ["Body", "Head", "may_follow", "read_body", "read_head"]

_MAX_LINE = 64 * 1024
_MAX_FIELDS = 100
_STATUS = re.compile(rb"HTTP/1\.([0-9]) ([1-9][0-9]{2})(?: ([^\r\n]*))?\r?\n")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*)\r?\n")
_FOLDED = re.compile(rb"[ \t]+([^\r\n\0]*)\r?\n")
_LENGTH = re.compile(r"[0-9]{1,18}")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r?\n")
_EMPTY = {204, 304}


@dataclass(frozen=True, slots=True)
class Head:
    """What an answer says before its body.

    Attributes:
        version: 10 for HTTP/1.0, else 11.
        status: the status code.
        reason: the words after it.
        headers: the fields as urllib wants them.
        fields: the same with names in lower case, those of one name as one list (RFC 9110,
            section 5.3).
    """

    version: int
    status: int
    reason: str
    headers: HTTPMessage
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Body:
    """What was read of a body.

    Attributes:
        data: the bytes.
        whole: whether it tells its end itself, and was read up to there.
    """

    data: bytes
    whole: bool


def read_head(reader: SocketReader) -> Head:
    """The head of the final answer; those before it, 100 Continue and the like, are skipped.

    Raises:
        MalformedAnswer: it is not HTTP.
        OSError: it was cut off, or the connection broke. A TimeoutError past the deadline.
    """
    while True:
        head = _one_head(reader)
        if head.status == 101:
            raise MalformedAnswer("it changes to a protocol that nobody asked for")
        if head.status >= 200:
            return head


def read_body(reader: SocketReader, head: Head, method: str | None, limit: int) -> Body:
    """The body, or its first bytes, one more than the limit, where it is longer than that.

    Raises:
        MalformedAnswer: it does not say how long it is.
        IncompleteRead: it was cut off.
        OSError: the connection broke. A TimeoutError past the deadline.
    """
    if method == "HEAD" or head.status in _EMPTY:
        return Body(b"", True)
    coding, length = head.fields.get("transfer-encoding"), head.fields.get("content-length")
    if coding is not None and coding.lower() == "chunked":
        data = _chunks(reader, limit + 1)
        return Body(data, len(data) <= limit)
    if coding is not None or length is None:
        return Body(reader.read(limit + 1), False)
    if not _LENGTH.fullmatch(length):
        raise MalformedAnswer("its Content-Length is no number")
    return Body(_exactly(reader, min(int(length), limit + 1)), int(length) <= limit)


def may_follow(head: Head) -> bool:
    """Whether the server takes another request on this connection (RFC 9112, section 9.3)."""
    options = {word.strip() for word in head.fields.get("connection", "").lower().split(",")}
    coded = "transfer-encoding" in head.fields
    if "close" in options or (coded and "content-length" in head.fields):
        return False
    return head.version > 10 or ("keep-alive" in options and not coded)


def _one_head(reader: SocketReader) -> Head:
    match = _STATUS.fullmatch(reader.readline(_MAX_LINE))
    if match is None:
        raise MalformedAnswer("it begins with no HTTP/1 status line")
    minor, status, reason = match.groups()
    headers, fields = HTTPMessage(), dict[str, str]()
    for name, value in _read_fields(reader):
        headers.set_raw(name, value)
        key = name.lower()
        fields[key] = f"{fields[key]}, {value}" if key in fields else value
    version = 10 if minor == b"0" else 11
    return Head(version, int(status), _text(reason or b""), headers, fields)


def _read_fields(reader: SocketReader) -> list[tuple[str, str]]:
    fields: list[tuple[str, str]] = []
    for _ in range(_MAX_FIELDS + 1):
        line = reader.readline(_MAX_LINE)
        if line in (b"\r\n", b"\n"):
            return fields
        if match := _FIELD.fullmatch(line):
            fields.append((match[1].decode(), _text(match[2])))
        elif fields and (match := _FOLDED.fullmatch(line)):
            # RFC 9112, section 5.2: a folded line is one with blanks.
            name, value = fields.pop()
            fields.append((name, f"{value} {_text(match[1])}"))
        else:
            raise MalformedAnswer("its header has a malformed or overlong line")
    raise MalformedAnswer(f"its header has more than {_MAX_FIELDS} lines")


def _text(value: bytes) -> str:
    return value.strip(b" \t").decode("iso-8859-1")


def _chunks(reader: SocketReader, most: int) -> bytes:
    body = bytearray()
    while size := _chunk_size(reader):
        body += _exactly(reader, min(size, most - len(body)))
        if len(body) >= most:
            return bytes(body)
        if reader.readline(2) != b"\r\n":
            raise MalformedAnswer("a chunk of it does not end where it says")
    _read_fields(reader)  # the trailer
    return bytes(body)


def _chunk_size(reader: SocketReader) -> int:
    match = _CHUNK.fullmatch(reader.readline(_MAX_LINE))
    if match is None:
        raise MalformedAnswer("a chunk of it does not say how long it is")
    return int(match.group(1), 16)


def _exactly(reader: SocketReader, size: int) -> bytes:
    data = reader.read(size)
    if len(data) < size:
        raise IncompleteRead(data, size - len(data))
    return data
