"""A short run of the soak: the same programs and the same verdict."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from .programs import TESTS

COMMAND = (sys.executable, "-m", "soak", "--jobs", "2000", "--kills", "20", "--seconds", "40")


def test_nothing_is_lost_or_done_twice_while_processes_are_killed(tmp_path: Path) -> None:
    """2,000 jobs through 20 strikes of SIGKILL end as they should, each in one final state."""
    run = subprocess.Popen(
        [*COMMAND, "--folder", str(tmp_path / "run")],
        cwd=TESTS,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = run.communicate(timeout=170)
    except BaseException:
        os.killpg(run.pid, signal.SIGKILL)  # its supervisors; their workers notice
        raise
    print(output)
    assert run.returncode == 0, output
    assert "every promise was kept" in output
