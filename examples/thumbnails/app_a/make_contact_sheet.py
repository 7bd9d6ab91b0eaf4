"""App A: has app B make thumbnails of a folder's pictures, and a contact sheet of them.

Both see the folder that the environment variable PICTURES names; paths are relative to it.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from dispatcher_core import BatchStatus, Dispatcher, DispatcherError, Job

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
PATIENCE = 600.0


def pictures_in(root: Path, folder: str) -> list[str]:
    """The paths of a folder's pictures, in the order of their names."""
    paths = sorted((root / folder).iterdir())
    return [str(path.relative_to(root)) for path in paths if path.suffix.lower() in SUFFIXES]


def make_contact_sheet(dispatcher: Dispatcher, root: Path, folder: str) -> bool:
    """Send a job for each picture as one batch, wait for it, and print what came of it."""
    pictures = pictures_in(root, folder)
    if not pictures:
        raise FileNotFoundError(f"there are no pictures in {root / folder}")
    jobs = [Job("make-thumbnail", {"picture": picture}) for picture in pictures]
    by_id = {job.id: picture for job, picture in zip(jobs, pictures, strict=True)}
    then = Job("write-contact-sheet", {"folder": folder, "pictures": pictures})
    catch = Job("write-failures", {"folder": folder, "pictures": by_id})
    result = dispatcher.batch(jobs, queue="pictures", then=then, catch=catch).raise_for_error()
    print(f"batch {result.id}, {len(jobs)} pictures", flush=True)
    batch = dispatcher.wait_batch(result.id, PATIENCE)
    print(f"{batch.state}: {batch.succeeded} of {batch.total} thumbnails made")
    print_failures(dispatcher, batch, by_id)
    last = dispatcher.wait((then if batch.state == "succeeded" else catch).id, PATIENCE)
    done = last.state == "succeeded"
    print(f"see {root / str(last.result)}" if done else f"{last.job}: {last.state}")
    return done and batch.state == "succeeded"


def print_failures(dispatcher: Dispatcher, batch: BatchStatus, by_id: Mapping[str, str]) -> None:
    """Print which pictures failed, and why."""
    for id in batch.failed_ids:
        error = dispatcher.status(id).error
        print(f"{by_id[id]}: {error.message if error else 'unknown'}")


def main() -> int:
    """Do it for the folder that the command line names."""
    root = os.environ.get("PICTURES")
    if root is None or len(sys.argv) != 2:
        print("usage: PICTURES=... make_contact_sheet.py FOLDER_BELOW_IT", file=sys.stderr)
        return 2
    try:
        return 0 if make_contact_sheet(Dispatcher.from_env(), Path(root), sys.argv[1]) else 1
    except (DispatcherError, OSError, ValueError) as error:
        print(f"make_contact_sheet.py: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
