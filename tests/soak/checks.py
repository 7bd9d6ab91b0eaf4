"""The verdict: what of the evidence shows a broken promise, each with the id of the job."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from .evidence import Accepted, Evidence, Row, Start
from .plans import BACKOFF, Plan

__all__ = ["by_job", "deaths", "findings", "recoveries", "surplus"]

DEADLY = 3  # after so many kills a job fails with ``worker-died``
_TICK = 20_000_000  # nanoseconds by which the wall clock and the monotonic one may differ


def findings(evidence: Evidence) -> list[str]:
    """Everything that must not be; empty if every promise was kept."""
    starts = by_job(evidence.starts)
    killed = deaths(evidence)
    rows = {row.id: row for row in evidence.rows}
    found = [*evidence.faults, *_acceptance(evidence), *_presence(evidence)]
    for accepted in evidence.accepted:
        row = rows.get(accepted.plan.id)
        if row is not None:
            own = starts.get(row.id, [])
            found += _ending(accepted.plan, row)
            found += _history(row, own, killed)
            found += _punctuality(accepted, own)
    if sum(row.kills for row in evidence.rows) > len(killed):
        found.append(f"more kills are counted than the {len(killed)} processes that were killed")
    return found


def by_job(starts: Sequence[Start]) -> Mapping[str, list[Start]]:
    """The starts of each job, in their order."""
    found = defaultdict(list)
    for start in sorted(starts, key=lambda start: start.at):
        found[start.id].append(start)
    return found


def deaths(evidence: Evidence) -> Mapping[str, int]:
    """When each worker process was killed, on the monotonic clock in nanoseconds."""
    return {kill.process: kill.at for kill in evidence.kills if kill.kind == "worker"}


def surplus(starts: Sequence[Start]) -> Iterator[tuple[Start, Start]]:
    """The starts of one job that repeat a try, each after the one that it repeats."""
    return ((a, b) for a, b in pairwise(starts) if a.attempt == b.attempt)


def recoveries(evidence: Evidence) -> Mapping[str, list[float]]:
    """Seconds from each kill of a running job's worker to the job's next start.

    They are sorted, by what else was killed: see :class:`Kill`.
    """
    killed = {kill.process: kill for kill in evidence.kills}
    found = defaultdict(list)
    for own in by_job(evidence.starts).values():
        for before, after in surplus(own):
            if kill := killed.get(before.process):
                found[kill.strike].append((after.at - kill.at) / 1e9)
    return {strike: sorted(times) for strike, times in found.items()}


def _acceptance(evidence: Evidence) -> Iterator[str]:
    """What was put must have been accepted, and known the second time."""
    if len(evidence.accepted) != evidence.jobs:
        yield f"{len(evidence.accepted)} jobs were accepted instead of {evidence.jobs}"
    for id, new in evidence.repeated:
        if new:
            yield f"job {id}: it was accepted a second time as if it were new"


def _presence(evidence: Evidence) -> Iterator[str]:
    """Each accepted job is in the table once, and nothing else is."""
    stored = Counter(row.id for row in evidence.rows)
    accepted = Counter(each.plan.id for each in evidence.accepted)
    for id in accepted.keys() - stored.keys():
        yield f"job {id}: it was accepted and is lost"
    for id in stored.keys() - accepted.keys():
        yield f"job {id}: it is in the table, but nobody was told so"
    for counted, where in ((stored, "is in the table"), (accepted, "was accepted")):
        yield from (f"job {id}: it {where} {n} times" for id, n in counted.items() if n > 1)
    yield from (f"job {id}: it ran, but is unknown" for id in _ran(evidence) - stored.keys())


def _ran(evidence: Evidence) -> set[str]:
    return {start.id for start in evidence.starts}


def _ending(plan: Plan, row: Row) -> Iterator[str]:
    """The job is in the state that was to be expected, and nobody owns it."""
    if row.worker is not None or row.finished_at is None:
        yield f"job {row.id}: it is {row.state} and yet not finished"
    if row.error_code == "worker-died":
        if row.state != "failed" or row.kills != DEADLY:
            yield f"job {row.id}: {row.state} as worker-died after {row.kills} kills"
        return
    if (row.state, row.error_code) != (plan.state, plan.error):
        yield f"job {row.id}: it is {row.state} ({row.error_code}), not {plan.state}"
    result = None if row.result is None else json.loads(row.result)
    if result != plan.result:
        yield f"job {row.id}: its result is {result!r}, not {plan.result!r}"
    # A job that is cancelled while it runs has used up a try, or none if its worker died.
    tries = (0, 1) if plan.cancel == "running" else (plan.attempt,)
    if row.attempt not in tries:
        yield f"job {row.id}: it took {row.attempt} tries, not {plan.attempt}"


def _history(row: Row, starts: Sequence[Start], killed: Mapping[str, int]) -> Iterator[str]:
    """Each start after the first has its reason, and none overlaps the one before."""
    cut = 0
    for before, after in pairwise(starts):
        if after.at <= _end(before, after, killed):
            yield f"job {row.id}: two runs overlap, in {before.process} and {after.process}"
        if after.attempt == before.attempt:
            cut += 1
            if not _was_killed(before, killed):
                yield f"job {row.id}: started again in {after.process} without any reason"
        elif after.attempt != before.attempt + 1 or not before.ended:
            yield f"job {row.id}: try {after.attempt} follows an unfinished try {before.attempt}"
    if starts and not starts[-1].ended:
        cut += 1
        if not _was_killed(starts[-1], killed):
            yield f"job {row.id}: its run in {starts[-1].process} never came to its end"
        elif row.state == "succeeded":
            yield f"job {row.id}: it is succeeded without having run to its end"
    yield from _account(row, starts, cut)


def _account(row: Row, starts: Sequence[Start], cut: int) -> Iterator[str]:
    """What the table counts is what happened: a kill may also hit before the start is noted."""
    if cut > row.kills:
        yield f"job {row.id}: {cut} of its runs were cut off, but {row.kills} kills are counted"
    if not row.attempt <= len(starts) <= row.attempt + row.kills:
        yield (
            f"job {row.id}: it started {len(starts)} times, for {row.attempt} tries and"
            f" {row.kills} kills"
        )


def _end(run: Start, after: Start, killed: Mapping[str, int]) -> int:
    """When the run was over at the latest, in nanoseconds."""
    retried = run.ended and after.attempt > run.attempt  # a later kill has nothing to do with it
    return run.seen if retried else max(run.seen, killed.get(run.process, 0))


def _was_killed(start: Start, killed: Mapping[str, int]) -> bool:
    return start.last and start.process in killed


def _punctuality(accepted: Accepted, starts: Sequence[Start]) -> Iterator[str]:
    """Nothing starts before its delay or its backoff is over."""
    plan = accepted.plan
    if starts and starts[0].at < min(accepted.asked) + plan.delay * 1e9 - _TICK:
        yield f"job {plan.id}: it started before its delay of {plan.delay} s was over"
    for before, after in pairwise(starts):
        backoff = BACKOFF[min(before.attempt, len(BACKOFF)) - 1] * 1e9
        if after.attempt > before.attempt and after.at < before.seen + backoff - _TICK:
            yield f"job {plan.id}: try {after.attempt} started before its backoff was over"
