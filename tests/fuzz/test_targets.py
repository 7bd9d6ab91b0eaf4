"""What the fuzz targets hold is so for their seeds, and a fault would not escape them."""

from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from dispatcher_core import RequestError, Signer
from dispatcher_core.batch_wire import decode_batch, decode_batch_status
from dispatcher_core.jsontext import load
from dispatcher_core.wire import decode_dispatch, decode_status

from . import decoding, verifying
from .mutating import mutated

KINDS = {
    "job": lambda data: decode_dispatch("a", data),
    "batch": lambda data: decode_batch("a", data),
    "status": lambda data: decode_status(load(data)),
    "batch status": lambda data: decode_batch_status(load(data)),
}


def reads(kind: str, data: bytes) -> bool:
    """Whether the decoder of a kind of message takes this one."""
    try:
        KINDS[kind](data)
    except (RequestError, ValueError):
        return False
    return True


@pytest.mark.parametrize("target", [decoding, verifying])
def test_seeds_pass(target):
    """Every seed is what its target expects."""
    for seed in target.seeds():
        target.check(seed)


def test_seeds_are_of_every_kind():
    """Each seed is read by one decoder, and each decoder reads some."""
    read = Counter(tuple(kind for kind in KINDS if reads(kind, seed)) for seed in decoding.seeds())
    assert {(kind,) for kind in KINDS} == set(read)


@pytest.mark.parametrize("chance", range(20))
def test_changed_json_is_read_as_what_it_says(chance):
    """JSON whose values were changed, over and over, is read rightly or refused."""
    for seed in decoding.seeds():
        data, random = seed, Random(chance)
        for _ in range(10):
            decoding.check(data)
            data = mutated(data, random) or seed


@pytest.mark.parametrize(
    "signer",
    [
        Signer(verifying.KEYS[0].decode()),
        Signer(verifying.KEYS[0].decode(), [key.decode() for key in verifying.KEYS[2:]]),
    ],
    ids=["without the previous ones", "with a stranger's"],
)
def test_a_signer_that_accepts_less_or_more_is_found(signer, monkeypatch):
    """A signer with other keys differs from what is computed here."""
    monkeypatch.setattr(verifying, "SIGNER", signer)
    with pytest.raises(AssertionError):
        for seed in verifying.seeds():
            verifying.check(seed)


@pytest.mark.parametrize(
    "change", [{"priority": 1}, {"payload": {"user": 8}}, {"queue": "x"}, {"job": "y"}]
)
def test_a_job_that_is_read_as_another_is_found(change, monkeypatch):
    """A decoder that gets one member wrong differs from what the JSON says."""
    monkeypatch.setattr(
        decoding, "decode_dispatch", lambda *parts: replace(decode_dispatch(*parts), **change)
    )
    with pytest.raises(AssertionError):
        decoding.check(next(decoding.seeds()))
