"""What a run is told by."""

from collections import Counter
from collections.abc import Iterator, Sequence

from .checks import by_job, recoveries, surplus
from .evidence import Evidence

__all__ = ["figures", "spread"]

_STRIKES = {
    "worker": "worker killed",
    "family": "supervisor too",
    "everything": "everything",
}


def figures(evidence: Evidence, *, took: float, wal_peak: int) -> Iterator[tuple[str, object]]:
    """Names and values.

    Args:
        evidence: of the run.
        took: seconds until every job was done.
        wal_peak: the greatest size of SQLite's log, in bytes.
    """
    kills = Counter(kill.kind for kill in evidence.kills)
    states = Counter(row.error_code or row.state for row in evidence.rows)
    starts = by_job(evidence.starts)
    repeats = sum(len(list(surplus(own))) for own in starts.values())
    yield "jobs accepted", len(evidence.accepted)
    yield "  put again, a kill having cut it off", sum(len(e.asked) > 1 for e in evidence.accepted)
    yield "    and known to the queue by then", sum(not e.new for e in evidence.accepted)
    yield "  put again although accepted", len(evidence.repeated)
    yield "processes killed", f"{len(evidence.kills)}: {_listed(kills)}"
    yield "jobs by their end", _listed(states)
    yield "starts", len(evidence.starts)
    yield "  retries that jobs asked for", len(evidence.starts) - len(starts) - repeats
    yield "  repeated because of a kill", repeats
    for strike, name in _STRIKES.items():
        yield f"seconds to next start, {name}", spread(recoveries(evidence).get(strike, ()))
    yield "jobs per second", f"{len(evidence.rows) / took:.0f}, for {took:.0f} s"
    yield "largest write-ahead log", f"{wal_peak / 2**20:.1f} MiB"


def spread(times: Sequence[float]) -> str:
    """Median, 99th percentile and maximum of sorted times."""
    if not times:
        return "none"
    last = len(times) - 1
    p50, p99 = times[last // 2], times[round(0.99 * last)]
    return f"p50 {p50:.3f}, p99 {p99:.3f}, max {times[last]:.3f} ({len(times)} times)"


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())
