"""Refuses file systems on which SQLite's locks and shared memory do not work.

SQLite's log needs memory that all its processes share, which no network file system gives
(https://sqlite.org/wal.html, section 1; https://sqlite.org/faq.html#q5).
"""

import logging
import os
import re
from pathlib import Path

from dispatcher_core.errors import QueueError

__all__ = ["check_file_system", "file_system_of"]

logger = logging.getLogger("dispatcher.queue")

_MOUNTS = Path("/proc/self/mountinfo")
_OCTAL = re.compile(r"\\([0-7]{3})")  # how it writes blanks and backslashes
_NETWORK = frozenset(
    (
        *("afs", "ceph", "cifs", "gfs2", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "smb3"),
        *("smbfs", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs"),
    )
)
_SHARED_WITH_A_HOST = frozenset(("9p", "fuse.grpcfuse", "fuse.osxfs", "virtiofs", "vboxsf"))


def check_file_system(folder: Path, mounts: Path = _MOUNTS) -> None:
    """Check that the folder is on a file system of this machine; warn where it may not be.

    Args:
        folder: where the queue's file is or will be.
        mounts: the table of mounts, as in proc_pid_mountinfo(5). Without one nothing is known.

    Raises:
        QueueError: it is on a network file system.
    """
    kind = file_system_of(folder, mounts)
    if kind in _NETWORK:
        raise QueueError(
            f"{folder} is on a network file system ({kind}), where SQLite loses data: set"
            " DISPATCHER_QUEUE_URL to a folder on a disk of this machine"
        )
    if kind in _SHARED_WITH_A_HOST:
        logger.warning(
            "%s is on a file system shared with another machine (%s): use the queue from one of"
            " them only",
            folder,
            kind,
        )


def file_system_of(folder: Path, mounts: Path = _MOUNTS) -> str | None:
    """The type of the file system that the folder is on, None where that is not known."""
    try:
        lines = mounts.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return None
    real = Path(os.path.realpath(folder))  # unlike resolve(), it bears a loop of links
    found = None
    for line in lines:
        # "36 35 98:0 /root /mount-point options ... - type source options"
        left, _, right = line.partition(" - ")
        point = Path(_OCTAL.sub(lambda code: chr(int(code[1], 8)), left.split(" ")[4]))
        if real.is_relative_to(point) and (found is None or len(point.parts) >= found[0]):
            found = len(point.parts), right.split(" ")[0]
    return found and found[1]
