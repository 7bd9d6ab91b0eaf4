"""Signatures after Standard Webhooks 1.0: HMAC-SHA256 over ``{id}.{timestamp}.{body}``.

Trust: whoever holds a secret may dispatch, read and cancel at every receiver that accepts
it. Answers are not signed.
"""

import base64
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .errors import ConfigError, SignatureError
from .keys import signing_key
from .names import is_id

__all__ = ["TOLERANCE", "SignedHeaders", "Signer", "read_headers", "signed_path"]

TOLERANCE = 300

_MAX_SIGNATURES = 8
_TIMESTAMP = re.compile(r"[0-9]{10}", re.ASCII)
# Strict base64 of 32 bytes: the last letter carries four bits, so the other two are zero.
_SIGNATURE = re.compile(r"v1,([A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=)", re.ASCII)


@dataclass(frozen=True, slots=True)
class SignedHeaders:
    """The three headers of a signed request, well-formed but not yet verified.

    Attributes:
        id: of the job, or of the request.
        timestamp: when it was signed, in Unix seconds.
        signatures: the SHA-256 digests to choose from.
    """

    id: str
    timestamp: int
    signatures: tuple[bytes, ...]

    def check_time(self, now: float) -> None:
        """Check that the request is not older or newer than :data:`TOLERANCE` seconds.

        Raises:
            SignatureError: with the code ``timestamp-out-of-range``.
        """
        if abs(self.timestamp - now) > TOLERANCE:
            raise SignatureError(
                f"the timestamp is over {TOLERANCE} s off: set the clocks of both machines",
                "timestamp-out-of-range",
            )


def read_headers(headers: Mapping[str, str]) -> SignedHeaders:
    """The signed headers out of all headers, whose names are in lower case.

    Raises:
        SignatureError: one is missing (``bad-signature``) or ill-formed (``malformed``).
    """
    message_id, timestamp, signature = (
        headers.get(f"webhook-{part}", "") for part in ("id", "timestamp", "signature")
    )
    if not (message_id and timestamp and signature):
        raise SignatureError("the request is not signed: a webhook-… header is missing")
    if not is_id(message_id):
        raise SignatureError("the webhook-id header is ill-formed", "malformed")
    if not _TIMESTAMP.fullmatch(timestamp):
        raise SignatureError("the webhook-timestamp header is ill-formed", "malformed")
    tokens = signature.split(" ")
    if len(tokens) > _MAX_SIGNATURES:
        raise SignatureError(f"the request has over {_MAX_SIGNATURES} signatures")
    found = tuple(
        base64.b64decode(match[1]) for token in tokens if (match := _SIGNATURE.fullmatch(token))
    )
    return SignedHeaders(message_id, int(timestamp), found)


def signed_path(method: str, path: str) -> bytes:
    """What a request without a body signs in the body's place.

    Args:
        method: ``GET`` or ``DELETE``.
        path: relative to where the receiver is mounted, such as ``/jobs/abc``.
    """
    return f"{method} {path}".encode("ascii")


class Signer:
    """Signs with one secret; verifies with it and with those it replaces.

    Args:
        secret: ``whsec_`` and base64, or printable ASCII of at least 24 bytes.
        previous: secrets that still verify, for as long as senders use them.

    Raises:
        ConfigError: a secret is too weak or ill-formed.
    """

    def __init__(self, secret: str, previous: Sequence[str] = ()) -> None:
        self._keys = tuple(map(_key, (secret, *previous)))

    def sign(self, id: str, timestamp: int, body: bytes) -> str:
        """The value of the ``webhook-signature`` header.

        Args:
            id: the value of ``webhook-id``.
            timestamp: the value of ``webhook-timestamp``, in Unix seconds.
            body: the raw body, or the :func:`signed_path`.
        """
        digest = _digest(self._keys[0], id, timestamp, body)
        return "v1," + base64.b64encode(digest).decode("ascii")

    def verify(self, headers: Mapping[str, str], body: bytes, now: float) -> None:
        """Check headers, age and signature of a request.

        Args:
            headers: the request's headers, names in lower case.
            body: the raw body, or the :func:`signed_path`.
            now: the time in Unix seconds.

        Raises:
            SignatureError: the request is not to be trusted.
        """
        signed = read_headers(headers)
        signed.check_time(now)
        self.verify_signature(signed, body)

    def verify_signature(self, signed: SignedHeaders, body: bytes) -> None:
        """Check that one of the signatures is made by one of our secrets.

        Raises:
            SignatureError: none is.
        """
        accepted = False
        for key in self._keys:
            expected = _digest(key, signed.id, signed.timestamp, body)
            for signature in signed.signatures:
                accepted |= hmac.compare_digest(signature, expected)
        if not accepted:
            raise SignatureError(
                "the signature does not match: both sides need the same DISPATCHER_BACKEND_SECRET"
            )


def _key(secret: object) -> bytes:
    if not isinstance(secret, str):
        raise ConfigError(f"a secret is text (str), not of type {type(secret).__name__}")
    return signing_key(secret)


def _digest(key: bytes, id: str, timestamp: int, body: bytes) -> bytes:
    return hmac.digest(key, b"%b.%d.%b" % (id.encode("ascii"), timestamp, body), "sha256")
