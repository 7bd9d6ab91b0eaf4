"""One target under atheris: ``python -m fuzz.target NAME FOLDER -OPTION=VALUE ...``."""

import sys
from random import Random

import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]

from .mutating import mutated

with atheris.instrument_imports(include=["dispatcher_core"]):
    from . import decoding, verifying

TARGETS = {"decoding": decoding, "verifying": verifying}


def main() -> None:
    """Fuzz until an option of libFuzzer says stop, or something is found."""
    name = sys.argv.pop(1)
    own = {"custom_mutator": mutate_json} if name == "decoding" else {}
    atheris.Setup(sys.argv, TARGETS[name].check, **own)
    atheris.Fuzz()


def mutate_json(data: bytes, most: int, seed: int) -> bytes:
    """Change a value of the JSON, or, as often, some of the bytes."""
    chance = Random(seed)
    changed = mutated(data, chance) if chance.random() < 0.5 else None
    if changed is None or len(changed) > most:
        return bytes(atheris.Mutate(data, most))
    return changed


if __name__ == "__main__":
    main()
