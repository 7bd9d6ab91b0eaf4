"""App B: makes thumbnails of pictures, and a contact sheet of them.

All pictures are below the folder that the environment variable PICTURES names. Jobs name them
relative to it, and touch nothing outside of it, whatever the payload says.
"""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageOps

from dispatcher_core import Fail, current_job, job

ROOT = Path(os.environ["PICTURES"]).resolve(strict=True)
SIDE = 160
"""Pixels: what a thumbnail fits into, and a field of the contact sheet."""


@job("make-thumbnail", timeout=60)
def make_thumbnail(picture: str) -> str:
    """Make a thumbnail. A second attempt writes the same file again.

    Args:
        picture: the path of a picture.

    Returns:
        The path of its thumbnail.
    """
    source, target = _inside(picture), _thumbnail_of(picture)
    with Image.open(source) as image:
        image.thumbnail((SIDE, SIDE))
        ImageOps.exif_transpose(image).convert("RGB").save(target)
    return _relative(target)


@job("write-contact-sheet")
def write_contact_sheet(folder: str, pictures: Sequence[str]) -> str:
    """Put the thumbnails of a batch on one picture: its ``then``, so all of them are there.

    Args:
        folder: the path of the folder that has the pictures.
        pictures: their paths, in the order in which they are to be shown.

    Returns:
        The path of the contact sheet.
    """
    if not pictures:
        raise Fail("a contact sheet needs at least one picture")
    columns = math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    sheet = Image.new("RGB", (columns * SIDE, rows * SIDE), "white")
    for number, picture in enumerate(pictures):
        row, column = divmod(number, columns)
        with Image.open(_thumbnail_of(picture)) as thumbnail:
            left = column * SIDE + (SIDE - thumbnail.width) // 2
            top = row * SIDE + (SIDE - thumbnail.height) // 2
            sheet.paste(thumbnail, (left, top))
    target = _made(folder, "contact-sheet.jpg")
    sheet.save(target)
    _made(folder, "failed.txt").unlink(missing_ok=True)
    return _relative(target)


@job("write-failures")
def write_failures(folder: str, pictures: Mapping[str, str]) -> str:
    """Write down which pictures failed: the ``catch`` of a batch, which knows their jobs' ids.

    Args:
        folder: the path of the folder that has the pictures.
        pictures: their paths, by the ids of their jobs.

    Returns:
        The path of the list.
    """
    batch = current_job().batch()
    if batch is None:
        raise Fail("write-failures is for the catch of a batch")
    target = _made(folder, "failed.txt")
    target.write_text("".join(f"{pictures[id]}\n" for id in batch.failed_ids), "utf-8")
    _made(folder, "contact-sheet.jpg").unlink(missing_ok=True)
    return _relative(target)


def _thumbnail_of(picture: str) -> Path:
    path = Path(picture)
    return _made(str(path.parent), f"{path.name}.jpg")


def _made(folder: str, name: str) -> Path:
    """Where a file goes that we make for the pictures of a folder."""
    path = _inside(f"{folder}/thumbnails/{name}")
    path.parent.mkdir(exist_ok=True)
    return path


def _inside(name: str) -> Path:
    """The real path of a file in our folder. A link that leads out of it is outside."""
    path = (ROOT / name).resolve()
    if not path.is_relative_to(ROOT):
        raise Fail(f"{name!r} is outside of the folder with the pictures")
    return path


def _relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()
