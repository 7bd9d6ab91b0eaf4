"""The text files that the demo counts, and what is in them by its own count."""

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import distributions
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

from ..errors import DispatcherError
from .limits import Limits

__all__ = ["MOST_FILES", "MOST_OWN_FILES", "Survey", "TextFile", "survey"]

MOST_FILES = 1000
"""How many files of a folder are counted."""

MOST_OWN_FILES = 300
"""How many of our own are, so that the demo stays quick while they become more."""

_MOST_BYTES = 64 * 1024 * 1024
_OWN_SUFFIXES = (".py", ".md")
_PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class TextFile:
    """A text file.

    Attributes:
        path: where it is.
        words: how many words it has.
        size: bytes.
        sha256: of its bytes, in hexadecimal.
    """

    path: Path
    words: int
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Survey:
    """What is to be counted.

    Attributes:
        place: what the files are of, for people.
        files: the text files.
        skipped: how many others there are, by reason.
        most: how many files it takes at most.
    """

    place: str
    files: tuple[TextFile, ...]
    skipped: Mapping[str, int]
    most: int

    def __str__(self) -> str:
        """How many files there are, and what was left out."""
        number = len(self.files)
        first = "the first " if number == self.most else ""
        files = f"{first}{number or 'no'} text {'file' if number == 1 else 'files'}"
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.skipped.items())
        return f"{files} of {self.place}{f' (skipped: {reasons})' if reasons else ''}"


class _Skipped(Exception):
    """A file is none of those to count; the text says why."""


def survey(folder: str | None, limits: Limits) -> Survey:
    """Look for text files, and count each of them.

    Text is what is UTF-8 (RFC 3629) without a zero byte. Hidden files and folders are left
    out, links to folders are not followed. So are files that are empty, or not as long as they
    say: those of /proc say 0, and may block or be different when they are read again.

    Args:
        folder: where to look; None for our own source files.
        limits: when to stop looking.

    Raises:
        DispatcherError: the folder cannot be read or has no text files; the time is up.
        Interrupted: a signal came.
    """
    skipped: Counter[str] = Counter()
    if folder is None:
        most, (place, paths) = MOST_OWN_FILES, _own_files()
    else:
        most, place = MOST_FILES, f"the folder {folder!r}"
        paths = _walk(_readable(folder), skipped)
    files = tuple(islice(_counted(paths, skipped, limits), most))
    found = Survey(place, files, skipped, most)
    if not found.files:
        raise DispatcherError(f"there are {found}: name another folder")
    return found


def _readable(folder: str) -> Path:
    if not folder:
        raise DispatcherError("FOLDER is empty: name a folder, or leave it out")
    try:
        path = Path(folder).absolute()
        next(path.iterdir(), None)
    except OSError as error:
        raise DispatcherError(
            f"cannot read the folder {folder!r}: {error.strerror}: name another one"
        ) from error
    return path


def _own_files() -> tuple[str, Iterator[Path]]:
    """The source files of the checkout that we run from, else of the installed packages."""
    place, folders = "the installed packages", _installed_packages()
    if _PACKAGE.parts[-4:-1] == ("packages", "core", "src"):
        checkout = _PACKAGE.parents[3]
        place, folders = f"the checkout {str(checkout)!r}", [checkout]
    # A package of ours that has a file which cannot be read has worse troubles than this.
    paths = (path for folder in folders for path in _walk(folder, Counter()))
    return place, (path for path in paths if path.suffix in _OWN_SUFFIXES)


def _installed_packages() -> list[Path]:
    names = {str(each.name).lower().replace("-", "_") for each in distributions()}
    specs = [find_spec(name) for name in sorted(names) if name.startswith("dispatcher_")]
    return [
        Path(folder)
        for spec in specs
        if spec is not None
        for folder in spec.submodule_search_locations or ()
    ]


def _walk(folder: Path, skipped: Counter[str]) -> Iterator[Path]:
    def note(_: OSError) -> None:
        skipped["unreadable"] += 1

    for root, folders, names in os.walk(folder, onerror=note):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(root, name) for name in sorted(names) if not name.startswith("."))


def _counted(paths: Iterable[Path], skipped: Counter[str], limits: Limits) -> Iterator[TextFile]:
    room = _MOST_BYTES
    for path in paths:
        limits.check("looking for text files")
        try:
            file = _counted_file(path, room)
        except _Skipped as reason:
            skipped[str(reason)] += 1
        else:
            room -= file.size
            yield file


def _counted_file(path: Path, room: int) -> TextFile:
    try:
        str(path).encode()  # it is to be sent as JSON
        content = _content(path, room)
        content.decode()
    except UnicodeEncodeError:
        raise _Skipped("not named in UTF-8") from None
    except UnicodeDecodeError:
        raise _Skipped("binary") from None
    except FileNotFoundError:
        raise _Skipped("missing") from None
    except OSError:
        raise _Skipped("unreadable") from None
    if b"\0" in content:
        raise _Skipped("binary")
    digest = hashlib.sha256(content).hexdigest()
    return TextFile(path, len(content.split()), len(content), digest)


def _content(path: Path, room: int) -> bytes:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise _Skipped("special")
    if status.st_size == 0:
        raise _Skipped("empty")
    if status.st_size > room:
        raise _Skipped("too large")
    with path.open("rb") as file:
        content = file.read(status.st_size + 1)
    if len(content) != status.st_size:
        raise _Skipped("special")
    return content
