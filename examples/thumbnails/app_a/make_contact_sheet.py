"""App A: has app B make thumbnails of a folder's pictures, and a contact sheet of them."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from dispatcher_core import BatchStatus, Dispatcher, DispatcherError, Job, Result

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


def pictures_in(folder: str) -> list[str]:
    """The paths of a folder's pictures, relative to PICTURES, which both applications see."""
    root = Path(os.environ["PICTURES"])
    paths = sorted((root / folder).iterdir())
    return [str(path.relative_to(root)) for path in paths if path.suffix.lower() in SUFFIXES]


def dispatch(dispatcher: Dispatcher, folder: str, pictures: Sequence[str]) -> Result:
    """Send one job for each picture as a batch, and say what is to follow."""
    jobs = [Job("make-thumbnail", {"picture": picture}) for picture in pictures]
    by_id = {job.id: picture for job, picture in zip(jobs, pictures, strict=True)}
    return dispatcher.batch(
        jobs,
        queue="pictures",
        then=Job("write-contact-sheet", {"folder": folder, "pictures": pictures}),
        catch=Job("write-failures", {"folder": folder, "pictures": by_id}),
    ).raise_for_error()


def report(dispatcher: Dispatcher, batch: BatchStatus) -> None:
    """Print what came of a batch that has ended, and of what followed it."""
    print(f"{batch.state}: {batch.succeeded} of {batch.total} thumbnails made")
    for id in batch.failed_ids:
        error = dispatcher.status(id).error
        print(error.message if error else id)
    followed = batch.then_id if batch.state == "succeeded" else batch.catch_id
    if followed:
        print(f"see {dispatcher.wait(followed).result}")


def main() -> int:
    """Do it for the folder that the command line names."""
    if len(sys.argv) != 2:
        print("usage: make_contact_sheet.py FOLDER, a folder below PICTURES", file=sys.stderr)
        return 2
    folder, dispatcher = sys.argv[1], Dispatcher.from_env()
    result = dispatch(dispatcher, folder, pictures_in(folder))
    print(f"batch {result.id}, {len(result.ids)} pictures", flush=True)
    batch = dispatcher.wait_batch(result.id)
    report(dispatcher, batch)
    return 0 if batch.state == "succeeded" else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (DispatcherError, OSError) as error:
        sys.exit(f"make_contact_sheet.py: {error}")
    except KeyError as error:
        sys.exit(f"make_contact_sheet.py: set {error.args[0]}")
