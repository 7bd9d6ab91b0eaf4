"""JSON as both sides of the wire understand it: RFC 8259 text within limits.

What one program writes, another must read as the same value. So whatever languages read
differently is refused: duplicate keys, NaN and infinity, integers beyond 64 bits, lone
surrogates, and nesting deeper than :data:`MAX_DEPTH`.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping

__all__ = ["MAX_DEPTH", "MAX_INTEGER", "dump", "flaw", "load", "plain_object"]

MAX_DEPTH = 64
MAX_INTEGER = 2**63 - 1

_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)
_CONTAINERS = (dict, list, tuple)  # written as a union it would be made anew for each look
_IN_AN_OBJECT = 2  # as the result stands in a status
_IN_A_BATCH = 4  # as a payload stands in a job, in a list, in a batch
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def _encoder() -> Callable[[object], str]:
    """What ``_ENCODER.encode`` does, by one C encoder for all values.

    ``encode`` makes a new one for each, which takes as long as to encode a small payload. The
    class of it is not documented: where there is none like it, ``encode`` itself must do.
    """
    own = _ENCODER
    try:
        encode = json.encoder.c_make_encoder(  # type: ignore[attr-defined]
            None,  # what would find a value in itself: that is refused before
            own.default,
            json.encoder.encode_basestring,
            own.indent,
            own.key_separator,
            own.item_separator,
            own.sort_keys,
            own.skipkeys,
            own.allow_nan,
        )
        encode({}, 0)
    except (AttributeError, TypeError):
        return own.encode
    return lambda value: "".join(encode(value, 0))


_encode = _encoder()


def dump(value: object) -> str:
    """The value as compact JSON text.

    Raises:
        ValueError: for NaN and infinity.
        TypeError: for what JSON cannot say.
        RecursionError: for what contains itself, or is nested a thousand levels deep.
    """
    return _encode(value)


def load(data: bytes) -> object:
    """The value of JSON text in UTF-8.

    Raises:
        ValueError: the text is no JSON, or breaks a limit; the message says which.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"the text is not UTF-8 (byte {error.start})") from None
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"the text is not JSON: {error}") from None
    except RecursionError:
        raise ValueError(f"the JSON is nested deeper than {MAX_DEPTH} levels") from None
    _check_text(text, value)
    return value


def plain_object(value: Mapping[str, object], where: str) -> dict[str, object]:
    """The mapping as a ``dict`` that JSON can say, also as the payload of a job in a batch.

    What is nested in it is copied too, so it stays what was checked.

    Raises:
        ValueError: it cannot; the message has the path of the offending value, such as
            ``payload.users[3].name``.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} must be a JSON object (a dict), not {type(value).__name__}")
    members = dict(value)
    found = flaw(members, where, depth=_IN_A_BATCH)
    if found:
        raise ValueError(found)
    return {key: _copied(inner) for key, inner in members.items()}


def flaw(value: object, where: str, *, depth: int = _IN_AN_OBJECT) -> str | None:
    """What keeps a Python value from being JSON within the limits, None when nothing does.

    Args:
        value: the value.
        where: what the message calls it.
        depth: the level at which it will stand in a text.
    """
    waiting = [(value, where, depth)]
    while waiting:
        here, path, depth = waiting.pop()
        if isinstance(here, _CONTAINERS):
            if depth > MAX_DEPTH:
                return f"{path} is nested deeper than {MAX_DEPTH} levels"
            for key, inner, inner_path in _members(here, path):
                if (found := _key_flaw(key, path)) is not None:
                    return found
                waiting.append((inner, inner_path, depth + 1))
        elif (found := _scalar_flaw(here, path)) is not None:
            return found
    return None


def _copied(value: object) -> object:
    """The value, whose containers are no longer the caller's; lists stand for tuples."""
    if isinstance(value, dict):
        return {key: _copied(inner) for key, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, list | tuple) else value


def _members(
    container: dict[object, object] | list[object] | tuple[object, ...], path: str
) -> Iterator[tuple[object, object, str]]:
    if isinstance(container, dict):
        for key, inner in container.items():
            yield key, inner, f"{path}.{key}"
    else:
        for position, inner in enumerate(container):
            yield "", inner, f"{path}[{position}]"


def _key_flaw(key: object, path: str) -> str | None:
    if not isinstance(key, str):
        return f"{path} has the key {key!r}: the keys of a JSON object are strings"
    return _scalar_flaw(key, f"a key of {path}")


def _scalar_flaw(value: object, path: str) -> str | None:
    if isinstance(value, str):
        lone = not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value)
        return f"{path} has a lone surrogate, which no UTF-8 text can hold" if lone else None
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, int):
        big = abs(value) > MAX_INTEGER
        return f"{path} is an integer beyond ±(2^63-1): send it as a string" if big else None
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{path} is {value}, which JSON cannot say"
    return f"{path} is a {type(value).__name__}, which is no JSON value"


def _check_text(text: str, value: object) -> None:
    # Walking a value costs more than parsing it, so look at the text first.
    deep = text.count("[") + text.count("{") > MAX_DEPTH
    if deep and _depth(value) > MAX_DEPTH:
        raise ValueError(f"the JSON is nested deeper than {MAX_DEPTH} levels")
    if _SURROGATE.search(text):
        try:
            dump(value).encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError("the JSON has a lone surrogate") from None


def _depth(value: object) -> int:
    """How deep the value is nested; stops counting one level past the limit."""
    level, depth = [value] if isinstance(value, _CONTAINERS) else [], 0
    while level and depth <= MAX_DEPTH:
        depth += 1
        level = [
            inner
            for here in level
            for inner in (here.values() if isinstance(here, dict) else here)
            if isinstance(inner, _CONTAINERS)
        ]
    return depth


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("the JSON has an object with the same key twice")
    return members


def _integer(digits: str) -> int:
    if len(digits) > 20 or abs(number := int(digits)) > MAX_INTEGER:
        raise ValueError("the JSON has an integer beyond ±(2^63-1)")
    return number


def _number(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("the JSON has a number beyond the range of a double")
    return number


def _constant(word: str) -> object:
    raise ValueError(f"{word} is not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=_integer,
    parse_float=_number,
    parse_constant=_constant,
)
