"""How much memory this process holds."""

import os
import resource
import sys
from pathlib import Path

__all__ = ["MEBIBYTE", "resident_memory"]

MEBIBYTE = 1024 * 1024

_STATM = Path("/proc/self/statm")


def resident_memory() -> int:
    """Resident memory of this process in bytes (proc_pid_statm(5), field 2).

    Where there is no ``/proc``, the most that it ever had (getrusage(2)).
    """
    try:
        pages = int(_STATM.read_text("ascii").split()[1])
    except OSError:
        return _peak()
    return pages * os.sysconf("SC_PAGE_SIZE")


def _peak() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
