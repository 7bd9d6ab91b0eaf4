"""Changes JSON so that it stays JSON: what is none comes no further than the parser."""

import json
from collections.abc import Iterator
from random import Random

VALUES = (
    *(None, True, False, 0, -1, 100, 101, 1.5, -0.0, 366 * 86400, 2**63 - 1, 2**63, -(2**63)),
    *(float("nan"), float("inf"), 1e308, "", "a", "-a", "job-1", "default", "dispatch"),
    *("dispatch.batch", "x" * 64, "x" * 65, "x" * 129, "\ud800", "\0", "é", "failed", "running"),
    *(
        "2024-05-06T07:08:09.123Z",
        "2024-05-06",
        "0001-01-01T00:00:00+14:00",
        [],
        {},
        [[]],
        {"": 0},
    ),
)
"""At the limits, or taken for something else."""

_DEEPEST = 70


def mutated(data: bytes, chance: Random) -> bytes | None:
    """The JSON with one of its values changed, None for what is no JSON to change."""
    try:
        value = json.loads(data)
        places = list(_places(value))
    except (ValueError, RecursionError):
        return None
    if not places:
        return None
    container, key = chance.choice(places)
    old = container[key]
    change = chance.randrange(6)
    if change == 0:
        container[key] = chance.choice(VALUES)
    elif change == 1:
        other, other_key = chance.choice(places)
        container[key] = _copy(other[other_key])
    elif change == 2:
        del container[key]
    elif change == 3:
        container[key] = json.loads(
            "[" * (depth := chance.randrange(_DEEPEST)) + "]" * depth or "0"
        )
    elif change == 4 and isinstance(container, dict):
        names = [name for _, name in places if isinstance(name, str)]
        container[chance.choice(names)] = _copy(old)
    else:
        container[key] = [_copy(old)] * chance.randrange(3)
    return json.dumps(value, separators=(",", ":"), ensure_ascii=chance.random() < 0.5).encode(
        "utf-8", "surrogatepass"
    )


def _places(value: object) -> Iterator[tuple]:
    """Each value inside as its container and its key or index there."""
    if isinstance(value, dict | list):
        for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
            yield value, key
            yield from _places(inner)


def _copy(value: object) -> object:
    return json.loads(json.dumps(value))
