"""How long to wait before the next try."""

from collections.abc import Callable, Sequence

__all__ = ["Backoff", "Jitter", "full_jitter", "retry_delay"]

Backoff = float | Sequence[float] | None
Jitter = Callable[[float, float], float]
"""Such as ``random.uniform``: a number between two others."""


def full_jitter(failures: int, *, first: float, most: float, uniform: Jitter) -> float:
    """Seconds to wait after so many failures: anything up to a bound that doubles.

    Args:
        failures: tries that failed so far, at least 1.
        first: the bound after the first failure, in seconds.
        most: the bound never exceeds this, in seconds.
        uniform: the source of randomness.
    """
    bound = most if failures > 32 else min(most, first * 2 ** (failures - 1))
    return uniform(0.0, bound)


def retry_delay(backoff: Backoff, failures: int, uniform: Jitter) -> float:
    """Seconds until a job is tried again.

    Args:
        backoff: seconds; or a sequence of them, whose last repeats; or None for full jitter
            from 1 s, doubling, at most 600 s.
        failures: tries that failed so far, at least 1.
        uniform: the source of randomness.
    """
    if backoff is None:
        return full_jitter(failures, first=1.0, most=600.0, uniform=uniform)
    if isinstance(backoff, Sequence):
        return backoff[min(failures, len(backoff)) - 1]
    return backoff
