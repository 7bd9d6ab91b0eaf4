"""What went wrong in one try, as the error that core knows."""

import ssl
from http.client import HTTPException, IncompleteRead
from urllib.error import URLError

from dispatcher_core.errors import SendFailed

__all__ = ["MalformedAnswer", "bad_answer", "send_failed"]

# How TLS reports that the connection itself ended.
_TLS_ENDED = (ssl.SSLEOFError, ssl.SSLZeroReturnError)


class MalformedAnswer(HTTPException):
    """An answer that is no HTTP; the text says why, and quotes nothing of it."""


def send_failed(error: Exception, place: str, timeout: float) -> SendFailed:
    """The error for what urllib.request and http.client raised.

    Args:
        error: what was raised.
        place: where the request went, as ``host:port``.
        timeout: the seconds that the exchange had.
    """
    cause = _cause(error)
    if isinstance(cause, TimeoutError):
        return SendFailed(f"no answer from {place} within {timeout:g} s", "timeout")
    if isinstance(cause, ssl.SSLError) and not isinstance(cause, _TLS_ENDED):
        return SendFailed(
            f"no trusted TLS connection to {place}: {_words(cause)}", "tls-failed", retryable=False
        )
    if isinstance(cause, OSError | IncompleteRead):
        return SendFailed(f"no answer from {place}: {_words(cause)}", "unreachable")
    # Another error's own text may quote the answer, which may say anything.
    fault = str(cause) if isinstance(cause, MalformedAnswer) else type(cause).__name__
    return bad_answer(place, f"is not valid HTTP ({fault})")


def bad_answer(place: str, fault: str) -> SendFailed:
    """The error for an answer that cannot be used."""
    return SendFailed(f"the answer from {place} {fault}", "bad-answer", retryable=False)


def _cause(error: Exception) -> Exception:
    if isinstance(error, URLError) and isinstance(error.reason, Exception):
        return error.reason
    return error


def _words(error: Exception) -> str:
    for attribute in ("verify_message", "strerror", "reason"):
        text = getattr(error, attribute, None)
        if isinstance(text, str) and text:
            break
    else:
        text = str(error)
    return "".join(letter if letter.isprintable() else "?" for letter in text)
