"""The ``.env`` file: reading our settings from it, and setting one without touching the rest.

Only lines of ``DISPATCHER_*`` and ``APP_ENV`` are ours, written ``[export ]KEY=value``. Single
quotes are literal, double quotes unescape ``\\n \\r \\t \\" \\\\``, an unquoted value ends at a
blank followed by ``#``, and nothing is interpolated. All other lines belong to somebody else
and are neither read nor judged. LF, CR LF and a CR alone end a line.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .errors import ConfigError

__all__ = ["Entry", "parse_env", "read_env", "with_value"]

_BOM = "\ufeff"
_LINE = re.compile(r"(?P<text>[^\r\n]*)(?P<end>\r\n|\r|\n|\Z)")
# Whatever else follows the name makes it a longer one, of somebody else's.
_OURS = re.compile(
    r"[ \t]*(?:export[ \t]+)?(?P<key>DISPATCHER_[A-Za-z0-9_]+|APP_ENV)(?=[ \t=:]|\Z)"
)
_EQUALS = re.compile(r"[ \t]*=")
_QUOTED = re.compile(
    r"""[ \t]*(?P<raw>"(?:[^"\\]|\\.)*"|'[^']*')[ \t]*(?:\#.*)?""", re.DOTALL | re.VERBOSE
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_UNESCAPED = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}
_ESCAPED = {character: f"\\{letter}" for letter, character in _UNESCAPED.items()}
_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,=~-]*")


@dataclass(frozen=True, slots=True)
class Entry:
    """One of our lines.

    Attributes:
        value: the value, unquoted.
        line: the number of its line, from 1.
        start: where the value is in the file's text, its quotes included.
        end: where it ends.
    """

    value: str
    line: int
    start: int
    end: int


def read_env(path: Path) -> dict[str, Entry]:
    """Our entries by key. A file that does not exist has none, nor has a folder of that name.

    Raises:
        ConfigError: the file cannot be read, is not UTF-8, or one of our lines is wrong.
    """
    try:
        content = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        return {}
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    return parse_env(content, str(path))


def parse_env(content: bytes, name: str) -> dict[str, Entry]:
    """Our entries by key, in the order of the file.

    Args:
        content: the bytes of the file.
        name: what errors call it.

    Raises:
        ConfigError: it is not UTF-8, or one of our lines is wrong or stands there twice.
    """
    entries: dict[str, Entry] = {}
    for line, start, text in _lines(_decoded(content, name)):
        ours = _OURS.match(text)
        if ours is None:
            continue
        key = ours["key"]
        if key in entries:
            raise ConfigError(
                f"{name} sets {key} twice, in lines {entries[key].line} and {line}: keep one"
            )
        entries[key] = _entry(text, ours.end(), line, start, f"{name}, line {line}: {key}")
    return entries


def with_value(content: bytes, key: str, value: str, name: str) -> bytes:
    """The file with one key set, every byte that is not its value kept.

    An existing value is replaced within the quotes it has, unless they cannot hold the new one.
    A new key goes into a line of its own at the end, ended as the file's other lines are.

    Args:
        content: the bytes of the file.
        key: one of our keys.
        value: any text.
        name: what errors call the file.

    Raises:
        ConfigError: as ``parse_env``.
    """
    entry = parse_env(content, name).get(key)
    text = content.decode("utf-8")
    if entry is not None:
        written = _written(value, text[entry.start : entry.end][:1])
        return (text[: entry.start] + written + text[entry.end :]).encode("utf-8")
    endings = [found["end"] for found in _LINE.finditer(text) if found["end"]]
    ending = endings[-1] if endings else "\n"
    gap = "" if text.removeprefix(_BOM) == "" or text.endswith(("\r", "\n")) else ending
    return (text + gap + f"{key}={_written(value, '')}" + ending).encode("utf-8")


def _decoded(content: bytes, name: str) -> str:
    if b"\0" in content:
        raise ConfigError(f"{name} is not a text file: save it as UTF-8")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = len(content[: error.start + 1].splitlines())
        raise ConfigError(f"{name} is not UTF-8, see line {line}: save it as UTF-8") from None


def _lines(text: str) -> Iterator[tuple[int, int, str]]:
    """Each line with its number and where it starts, without its end."""
    start = len(_BOM) if text.startswith(_BOM) else 0
    for number, found in enumerate(_LINE.finditer(text, start), 1):
        yield number, found.start(), found["text"]


def _entry(text: str, position: int, line: int, start: int, where: str) -> Entry:
    equals = _EQUALS.match(text, position)
    if equals is None:
        raise ConfigError(f"{where} has no value: write KEY=value")
    begin = equals.end()
    rest = text[begin:]
    if not rest.lstrip(" \t").startswith(("'", '"')):
        value, offset = _unquoted(rest)
        begin = begin + start + offset
        return Entry(value, line, begin, begin + len(value))
    quoted = _QUOTED.fullmatch(rest)
    if quoted is None:
        raise ConfigError(f"{where} has a quote that is not closed, or text after it: correct it")
    raw, begin = quoted["raw"], begin + start + quoted.start("raw")
    return Entry(_unquote(raw), line, begin, begin + len(raw))


def _unquoted(text: str) -> tuple[str, int]:
    """The value before a comment and the blanks around it, and where it begins."""
    comment = re.search(r"[ \t]#", text)
    body = text[: comment.start()] if comment else text
    value = body.strip(" \t")
    if not value:
        return value, 0 if comment else len(body)
    return value, body.index(value)


def _unquote(raw: str) -> str:
    if raw.startswith("'"):
        return raw[1:-1]
    return _ESCAPE.sub(lambda found: _UNESCAPED.get(found[1], found[0]), raw[1:-1])


def _written(value: str, quote: str) -> str:
    """The value in a quote like the one given, where that can hold it, else in double quotes."""
    if quote == "'" and not set("'\r\n") & set(value):
        return f"'{value}'"
    if quote not in ("'", '"') and _PLAIN.fullmatch(value):
        return value
    return '"' + "".join(_ESCAPED.get(character, character) for character in value) + '"'
