import random

import pytest

from dispatcher_core.backoff import full_jitter, retry_delay


def upper(low, high):
    """Chance that always gives the bound."""
    assert low == 0.0
    return high


@pytest.mark.parametrize(("failures", "bound"), [(1, 0.5), (2, 1.0), (3, 2.0), (4, 3.0), (9, 3.0)])
def test_the_bound_doubles_up_to_its_limit(failures, bound):
    """After each failure the bound is twice as high, until the most."""
    assert full_jitter(failures, first=0.5, most=3.0, uniform=upper) == bound


@pytest.mark.parametrize("failures", [33, 2000, 10**9])
def test_many_failures_do_not_overflow(failures):
    """However often it failed, the bound stays at the most."""
    assert full_jitter(failures, first=0.5, most=3.0, uniform=upper) == 3.0


def test_jitter_is_anything_up_to_the_bound():
    """Delays are spread over the whole range below the bound."""
    chance = random.Random(1)
    drawn = [full_jitter(3, first=1.0, most=60.0, uniform=chance.uniform) for _ in range(500)]
    assert 0 <= min(drawn) < 0.4
    assert 3.6 < max(drawn) <= 4.0


@pytest.mark.parametrize(
    ("backoff", "failures", "delay"),
    [
        (7, 1, 7),
        (7, 9, 7),
        (0, 1, 0),
        ([1, 10, 60], 1, 1),
        ([1, 10, 60], 2, 10),
        ((1, 10, 60), 3, 60),
        ([1, 10, 60], 50, 60),
        (None, 1, 1.0),
        (None, 4, 8.0),
        (None, 40, 600.0),
    ],
)
def test_a_job_waits_as_its_backoff_says(backoff, failures, delay):
    """A number always, a list step by step with its last repeated, None with full jitter."""
    assert retry_delay(backoff, failures, upper) == delay
