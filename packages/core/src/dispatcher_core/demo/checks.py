"""Whether all was right: what the jobs returned against what is so."""

from collections import Counter
from collections.abc import Iterator, Sequence

from ..errors import DeliveryError
from ..status import JobStatus
from .files import TextFile
from .jobs import STUMBLES
from .play import DELAY, Played

__all__ = ["problems", "waited"]

# Times are exact to the millisecond, and both may be rounded.
_ROUNDING = 0.002


def problems(files: Sequence[TextFile], played: Played) -> list[str]:
    """What went wrong, each in one line.

    Args:
        files: what there is to count.
        played: what became of the jobs.
    """
    return [*_miscounted(files, played), *_misbatched(files, played), *_misplayed(played)]


def waited(status: JobStatus) -> float:
    """Seconds from the acceptance of a job until its last try began."""
    start = status.started_at or status.created_at
    return (start - status.created_at).total_seconds()


def _miscounted(files: Sequence[TextFile], played: Played) -> Iterator[str]:
    for file, status in zip(files, played.counted, strict=True):
        expected = {"words": file.words, "bytes": file.size, "sha256": file.sha256}
        if status.state != "succeeded":
            yield f"{str(file.path)!r} was not counted: {_reason(status)}"
        elif status.result != expected:
            yield f"{str(file.path)!r} is miscounted, or it changed while the demo ran"


def _misbatched(files: Sequence[TextFile], played: Played) -> Iterator[str]:
    batch, total = played.batch, played.total
    states = Counter[str](status.state for status in played.counted)
    ends = {"succeeded": batch.succeeded, "failed": batch.failed, "cancelled": batch.cancelled}
    if batch.total != len(files) or any(states[name] != ends[name] for name in ends):
        yield f"the batch counted {ends} of {batch.total} jobs, and these are {dict(states)}"
    expected = _direct_total(files, played)
    if total.state != "succeeded":
        yield f"the job {total.job} did not succeed: {_reason(total)}"
    elif total.result != expected:
        yield f"the job {total.job} added up {total.result}, and directly it is {expected}"


def _direct_total(files: Sequence[TextFile], played: Played) -> dict[str, int]:
    """The totals of those files whose jobs succeeded, by the demo's own count."""
    pairs = zip(files, played.counted, strict=True)
    read = [file for file, status in pairs if status.state == "succeeded"]
    words, size = sum(file.words for file in read), sum(file.size for file in read)
    return {"files": len(read), "words": words, "bytes": size}


def _misplayed(played: Played) -> Iterator[str]:
    for status in (played.stumbled, played.delayed, played.survival.status):
        if status.state != "succeeded":
            yield f"the job {status.job} did not succeed: {_reason(status)}"
    if played.stumbled.attempt != STUMBLES + 1:
        yield f"the job that fails {STUMBLES} times took {played.stumbled.attempt} attempts"
    if waited(played.delayed) < DELAY - _ROUNDING:
        yield f"the job that was delayed by {DELAY:g} s waited {waited(played.delayed):.3f} s"
    refused = played.refused
    if not isinstance(refused, DeliveryError) or refused.code != "unknown-job":
        yield f"the unknown job was not refused as that: {refused or 'it was accepted'}"
    if not _recovered(played):
        yield f"the job whose process was killed ended oddly: {played.survival.status.result}"


def _recovered(played: Played) -> bool:
    """Whether a second process ended the job of the killed one."""
    result, killed = played.survival.status.result, played.survival.killed
    return isinstance(result, dict) and result["killed"] == killed != result["ended"]


def _reason(status: JobStatus) -> str:
    error = status.error
    if error is None:
        return f"it is {status.state}"
    if error.type == "FileNotFoundError":
        return "it vanished while the demo ran"
    return f"{error.type or error.code}: {error.message}"
