"""The codes that an answer with a problem document (RFC 9457) may carry."""

__all__ = ["STATUSES"]

STATUSES = {
    "malformed": 400,
    "bad-signature": 401,
    "timestamp-out-of-range": 401,
    "not-found": 404,
    "method-not-allowed": 405,
    "timeout": 408,
    "length-required": 411,
    "too-large": 413,
    "unsupported-media-type": 415,
    "unknown-job": 422,
    "invalid-payload": 422,
    "invalid-request": 422,
    "invalid-batch": 422,
    "id-reused": 422,
    "queue-full": 429,
    "internal": 500,
    "unavailable": 503,
}
"""The HTTP status of every code."""
