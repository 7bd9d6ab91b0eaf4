"""From a secret, as it is written down, to the bytes that sign.

A raw secret signs with its own bytes. One that begins with ``whsec_`` is base64, as in the
Standard Webhooks specification, and signs with what it decodes to.
"""

import base64
import binascii
import re

from .errors import ConfigError

__all__ = ["MINIMUM_BYTES", "signing_key"]

MINIMUM_BYTES = 24

_PREFIX = "whsec_"
_NOT_RAW = re.compile(r"""[^!-~]|[,'"#$\\`]""")
_ADVICE = "make a new one with `dispatcher secret`"

# What people write as a placeholder. Whole words only: a random secret that happens to contain
# one of them stays a good secret.
_PLACEHOLDER = re.compile(
    r"(?:(?:secret|password|passwd|passphrase|change|me|this|your|my|the|here|key|token|value"
    r"|super|very|long|random|string|please|replace|insert|set|example|sample|default|dummy"
    r"|test|admin|letmein|qwerty|qwertyuiop|webhook|dispatcher|backend|shared|placeholder"
    r"|abcdefghijklmnopqrstuvwxyz|0123456789|1234567890)[0-9]{0,4})+"
)
_LONGEST_UNIT = 32


def signing_key(secret: str) -> bytes:
    """The key of HMAC-SHA256 that a secret stands for.

    Args:
        secret: printable ASCII without blank, comma, quotes, ``#``, ``$``, backslash and
            backtick, at least 24 characters; or ``whsec_`` and the padded standard base64
            (RFC 4648, section 4) of at least 24 bytes, which is never taken as raw.

    Raises:
        ConfigError: the secret breaks these rules, or is a placeholder such as ``secret``.
            The text never contains the secret.
    """
    key = _decoded(secret) if secret.startswith(_PREFIX) else _raw(secret)
    if len(key) < MINIMUM_BYTES:
        raise ConfigError(f"the secret has less than {MINIMUM_BYTES} bytes: {_ADVICE}")
    if _is_weak(key):
        raise ConfigError(f"the secret is one that anybody would guess: {_ADVICE}")
    return key


def _raw(secret: str) -> bytes:
    refused = _NOT_RAW.search(secret)
    if refused is not None:
        raise ConfigError(
            f"the secret has a character that is not allowed, at position {refused.start() + 1}:"
            " it must be printable ASCII without blanks, commas, quotes, #, $, backslashes and"
            f" backticks; {_ADVICE}"
        )
    return secret.encode("ascii")


def _decoded(secret: str) -> bytes:
    text = secret.removeprefix(_PREFIX)
    try:
        key = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        key = b""
    # The decoder lets stray bits and some wrong padding pass: only what encodes back is strict.
    if not text or base64.b64encode(key).decode("ascii") != text:
        raise ConfigError(
            f"the secret begins with {_PREFIX} but is not padded standard base64 after it:"
            f" copy it whole, or {_ADVICE}"
        )
    return key


def _is_weak(key: bytes) -> bool:
    """Whether a key is one repeated character, or a placeholder, also repeated to length."""
    if not key.isascii():
        return len(set(key)) == 1
    text = re.sub(r"[-_.:]", "", key.decode("ascii").lower())
    if len(set(text)) <= 1 or _PLACEHOLDER.fullmatch(text):
        return True
    return any(
        _PLACEHOLDER.fullmatch(text[:length])
        for length in range(2, min(len(text), _LONGEST_UNIT))
        if text[length:] == text[:-length]
    )
