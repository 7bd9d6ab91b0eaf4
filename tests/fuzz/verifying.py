"""``Signer.verify`` accepts exactly what an HMAC computed here says, and refuses with its codes.

An input is the three headers and the body, divided by the byte 0xff. ``@0`` to ``@3`` in the
signature stand for the base64 of the right digest with each of the keys, so that what is
mutated can be signed rightly.
"""

import base64
import hashlib
import re
import string
from collections.abc import Iterator

from dispatcher_core.errors import SignatureError
from dispatcher_core.signing import Signer, signed_path

NOW = 1_674_087_231
PREVIOUS = 2
_DECODED = bytes(range(100, 132))
KEYS = (b"A1b2" * 16, _DECODED, b"longer-than-a-block-of-SHA-256." * 3, b"of-a-stranger-" * 4)
"""The keys of the secret, of the two before it, and of somebody else."""

SIGNER = Signer(
    KEYS[0].decode(), [f"whsec_{base64.b64encode(_DECODED).decode()}", KEYS[2].decode()]
)
WORDS: tuple[bytes, ...] = (
    *(b"v1,@0", b"v1,@1", b"v1,@2", b"v1,@3", b"@0", b" ", b"\xff", b"v2,", b"v1a,", b"=", b"=="),
    *(b"1674087231", b"1674086931", b"1674087532", b"0000000000", b"9999999999", b"+", b"_"),
    *("\uff11".encode(), b".", b"\n", b"\0", b"GET /jobs/", b"DELETE /jobs/"),
)

_ID = set(string.ascii_letters + string.digits + "_-")
_BLOCK = 64


def seeds() -> Iterator[bytes]:
    """Requests that are signed rightly with each of our keys, and with several."""
    bodies = (b'{"type":"dispatch","job":"send-mail"}', signed_path("GET", "/jobs/job-1"), b"")
    for body in bodies:
        for signature in (b"v1,@0", b"v1,@1", b"v1,@2", b"v1,@3 v2,x v1,@2"):
            yield b"\xff".join((b"job-1", str(NOW).encode(), signature, body))
    for timestamp in (NOW - 300, NOW + 300):
        yield b"\xff".join((b"_", str(timestamp).encode(), b" ".join([b"v1,@0"] * 8), b"{}"))


def check(data: bytes) -> None:
    """Verify the request, and compare with what is expected.

    Raises:
        AssertionError: the two differ.
    """
    parts = data.split(b"\xff", 3)
    id, timestamp, marked, body = (*parts, *[b""] * (4 - len(parts)))
    digests = [base64.b64encode(_hmac(key, b".".join((id, timestamp, body)))) for key in KEYS]
    signature = re.sub(rb"@([0-3])", lambda match: digests[int(match[1])], marked)
    fields = {"webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signature}
    headers = {
        name: value.decode("utf-8", "surrogateescape") for name, value in fields.items() if value
    }
    accepted = [b"v1," + digest for digest in digests[: 1 + PREVIOUS]]
    assert _verdict(headers, body) == _expected(id, timestamp, signature, accepted)


def _verdict(headers: dict[str, str], body: bytes) -> str:
    try:
        SIGNER.verify(headers, body, NOW)
    except SignatureError as error:
        return error.code
    return "accepted"


def _expected(id: bytes, timestamp: bytes, signature: bytes, accepted: list[bytes]) -> str:
    if not (id and timestamp and signature):
        return "bad-signature"
    name = id.decode("utf-8", "surrogateescape")
    if len(name) > 64 or not set(name) <= _ID or name.startswith("-"):
        return "malformed"
    if len(timestamp) != 10 or not set(timestamp) <= set(b"0123456789"):
        return "malformed"
    tokens = signature.split(b" ")
    if len(tokens) > 8:
        return "bad-signature"
    if abs(int(timestamp) - NOW) > 300:
        return "timestamp-out-of-range"
    return "accepted" if set(tokens) & set(accepted) else "bad-signature"


def _hmac(key: bytes, message: bytes) -> bytes:
    """HMAC-SHA256 as RFC 2104 writes it down."""
    padded = (hashlib.sha256(key).digest() if len(key) > _BLOCK else key).ljust(_BLOCK, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in padded) + message).digest()
    return hashlib.sha256(bytes(byte ^ 0x5C for byte in padded) + inner).digest()
