"""The figures of a run of the demo, as a table and as JSON."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ..errors import DeliveryError
from ..status import JobStatus
from .checks import waited
from .files import Survey
from .play import Played

__all__ = ["Report"]


@dataclass(frozen=True, slots=True)
class Report:
    """What a run of the demo came to.

    Attributes:
        survey: the files.
        played: what became of the jobs.
        problems: what went wrong.
        seconds: that the run took, from its start until all was tidied up.
    """

    survey: Survey
    played: Played
    problems: Sequence[str]
    seconds: float

    def figures(self) -> dict[str, object]:
        """The figures, as JSON may hold them. Times are seconds."""
        slowest, path = self._slowest()
        return {
            "ok": not self.problems,
            "problems": list(self.problems),
            "files": len(self.survey.files),
            "words": self._total("words"),
            "bytes": self._total("bytes"),
            "skipped": dict(self.survey.skipped),
            "states": self._states(),
            "attempts": self._attempts(),
            "slowest": {"path": str(path), "seconds": _took(slowest)},
            "jobs_per_second": round(self._rate(), 1),
            "batch": self._batch(),
            **self._scenes(),
            "seconds": round(self.seconds, 2),
        }

    def rows(self) -> dict[str, str]:
        """The table, by the names of its lines."""
        stumbled, survival, batch = self.played.stumbled, self.played.survival, self.played.batch
        recovery = f"{survival.recovery:.2f} s after its worker process {survival.killed} died"
        slowest, path = self._slowest()
        return {
            "states": _joined("{count} {name}", self._states()),
            "attempts": _joined("{name} for {count} of them", self._attempts()),
            "batch": f"{batch.succeeded} of {batch.total} jobs succeeded"
            f" in {self._batch_seconds():.2f} s",
            "failing twice": f"{stumbled.state} at attempt {stumbled.attempt}",
            "delayed": f"started {waited(self.played.delayed):.2f} s after it was accepted",
            "unknown": "refused with {status}, {code}".format(**self._refusal()),
            "killed": f"{survival.status.state} {recovery}",
            "slowest": f"{_took(slowest):.3f} s for {str(path)!r}",
            "jobs a second": f"{self._rate():.0f}",
            "totals": self._totals(),
            "all right": self._verdict(),
            "took": f"{self.seconds:.1f} s",
        }

    def _scenes(self) -> dict[str, object]:
        stumbled, delayed = self.played.stumbled, self.played.delayed
        survival = self.played.survival
        return {
            "unknown": self._refusal(),
            "failing_twice": {"state": stumbled.state, "attempts": stumbled.attempt},
            "delayed": {"state": delayed.state, "waited": waited(delayed)},
            "killed": {
                "state": survival.status.state,
                "pid": survival.killed,
                "recovered_after": round(survival.recovery, 3),
            },
        }

    def _refusal(self) -> dict[str, object]:
        refused = self.played.refused
        if refused is None:
            return {"code": None, "status": None}
        status = refused.status if isinstance(refused, DeliveryError) else None
        return {"code": refused.code, "status": status}

    def _verdict(self) -> str:
        if self.problems:
            return f"no, {len(self.problems)} wrong, told below"
        return "yes, each file's words, bytes and hash, and the totals, are as counted directly"

    def _jobs(self) -> list[JobStatus]:
        played = self.played
        singles = (played.stumbled, played.delayed, played.survival.status)
        return [*played.counted, played.total, *singles]

    def _states(self) -> dict[str, int]:
        refused = {"refused": 1} if self.played.refused else {}
        return {**Counter[str](status.state for status in self._jobs()), **refused}

    def _attempts(self) -> dict[str, int]:
        return dict(Counter(str(status.attempt) for status in self._jobs()))

    def _slowest(self) -> tuple[JobStatus, Path]:
        paths = (file.path for file in self.survey.files)
        counts = zip(self.played.counted, paths, strict=True)
        return max(counts, key=lambda count: _took(count[0]))

    def _rate(self) -> float:
        # Times are exact to the millisecond: a file may take none.
        return self.played.batch.total / max(0.001, self._batch_seconds())

    def _batch(self) -> dict[str, object]:
        batch = self.played.batch
        return {
            "state": batch.state,
            "total": batch.total,
            "succeeded": batch.succeeded,
            "failed": batch.failed,
            "seconds": self._batch_seconds(),
        }

    def _batch_seconds(self) -> float:
        batch = self.played.batch
        return _seconds(batch.created_at, batch.finished_at)

    def _totals(self) -> str:
        if self.played.total.state != "succeeded":
            return f"none, {self.played.total.job} is {self.played.total.state}"
        totals = {name: self._total(name) for name in ("files", "words", "bytes")}
        return _joined("{count} {name}", totals)

    def _total(self, name: str) -> object:
        """What the job that adds up came to, None where it did not."""
        result = self.played.total.result
        return result.get(name) if isinstance(result, dict) else None


def _took(status: JobStatus) -> float:
    """Seconds that the job's last try took."""
    return _seconds(status.started_at, status.finished_at)


def _seconds(start: datetime | None, end: datetime | None) -> float:
    return (end - start).total_seconds() if start and end else 0.0


def _joined(form: str, counts: Mapping[str, object]) -> str:
    return ", ".join(form.format(count=count, name=name) for name, count in counts.items())
