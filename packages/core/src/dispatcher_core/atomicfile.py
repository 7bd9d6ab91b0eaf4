"""Replacing a file in one step."""

import contextlib
import os
import stat
import tempfile
from pathlib import Path

from .errors import ConfigError

__all__ = ["replace_file"]


def replace_file(path: Path, content: bytes) -> None:
    """Replaces the content of a file that exists: readers see the old or the new, never a part.

    Mode and owner are kept, a symbolic link is followed and stays one, and the new content is
    on the disk before it takes the place of the old.

    Raises:
        ConfigError: the file is no regular one, or it cannot be replaced. It is unchanged.
    """
    try:
        target = path.resolve(strict=True)
        status = target.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{path} is not a regular file: it was not changed")
        temporary = _written_beside(target, status, content)
        try:
            temporary.replace(target)
        except OSError:
            temporary.unlink()
            raise
        _flush_folder(target.parent)
    except OSError as error:
        raise ConfigError(f"cannot replace {path}: {error.strerror}") from error


def _written_beside(target: Path, status: os.stat_result, content: bytes) -> Path:
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            # Only root may give a file away; without it the file is our own, as any editor's.
            with contextlib.suppress(PermissionError):
                os.fchown(descriptor, status.st_uid, status.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(status.st_mode))
            file.write(content)
            file.flush()
            os.fsync(descriptor)
    except BaseException:
        Path(name).unlink()
        raise
    return Path(name)


def _flush_folder(folder: Path) -> None:
    # Some file systems cannot flush a folder; the file is in its place all the same.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
