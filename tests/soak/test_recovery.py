"""A job whose worker was killed runs again at once."""

import subprocess
import sys

import pytest

from .programs import TESTS


@pytest.mark.parametrize("way", ["sister", "alone", "whole"])
def test_a_job_runs_again_within_two_seconds(way: str) -> None:
    """Each of 10 times: beside an idle worker, without one, and with the supervisor killed too."""
    run = subprocess.run(
        [sys.executable, "-m", "soak.recovery", "--kills", "10", "--way", way],
        cwd=TESTS,
        capture_output=True,
        text=True,
        timeout=150,
    )
    print(run.stdout)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "(10 times)" in run.stdout
