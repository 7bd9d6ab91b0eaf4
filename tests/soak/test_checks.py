"""The verdict of the soak finds what is wrong."""

from dataclasses import replace

import pytest

from .checks import findings, recoveries
from .evidence import Accepted, Evidence, Row, Start
from .killing import Kill
from .plans import Plan

PLAN = Plan(id="a", job="square", payload={"number": 3}, queue="mail", priority=0, result=9)
RETRIED = replace(PLAN, attempt=2)
ROW = Row("a", "succeeded", 1, 0, "9", None, None, 1)
FIRST = Start("a", 1, "100-1", at=1_000, seen=2_000, ended=True)
SECOND = Start("a", 1, "200-2", at=5_000, seen=6_000, ended=True)
CUT = replace(FIRST, ended=False, last=True)
KILL = Kill("worker", "100-1", 3_000, "worker")
LATER = replace(SECOND, attempt=2, at=200_000_000, seen=200_000_001)


def evidence(plan=PLAN, row=ROW, starts=(FIRST,), kills=(), **changes) -> Evidence:
    """The evidence of one job that was put at the time 0."""
    whole = Evidence(
        jobs=1, accepted=[Accepted(plan, [0], True)], rows=[row], starts=starts, kills=kills
    )
    return replace(whole, **changes)


@pytest.mark.parametrize(
    "given",
    [
        evidence(),
        evidence(row=ROW._replace(kills=1), starts=(CUT, SECOND), kills=(KILL,)),
        evidence(
            row=ROW._replace(kills=1), starts=(replace(FIRST, last=True), SECOND), kills=(KILL,)
        ),
        evidence(RETRIED, ROW._replace(attempt=2), (FIRST, LATER)),
        evidence(
            RETRIED,
            ROW._replace(attempt=2),
            (replace(FIRST, last=True), LATER),
            (replace(KILL, at=LATER.at + 1),),
        ),
        evidence(row=ROW._replace(kills=1), kills=(KILL,)),
        evidence(accepted=[Accepted(PLAN, [0], False)], repeated=[("a", False)]),
    ],
    ids=[
        "once",
        "cut-off",
        "killed-before-commit",
        "retried",
        "killed-after-retry",
        "killed-before-start",
        "sent-again",
    ],
)
def test_what_may_happen_is_no_finding(given: Evidence) -> None:
    """One run, a run that a kill cut off, a retry, and a request sent again are all right."""
    assert findings(given) == []


@pytest.mark.parametrize(
    ("given", "finding"),
    [
        (evidence(rows=[], starts=[]), "lost"),
        (evidence(rows=[ROW, ROW]), "in the table 2 times"),
        (evidence(accepted=[], jobs=0), "nobody was told"),
        (evidence(jobs=2), "1 jobs were accepted instead of 2"),
        (evidence(repeated=[("a", True)]), "as if it were new"),
        (
            evidence(row=ROW._replace(state="running", worker="w", finished_at=None)),
            "not finished",
        ),
        (evidence(row=ROW._replace(state="failed", error_code="exception")), "it is failed"),
        (evidence(row=ROW._replace(result="8")), "its result is 8, not 9"),
        (evidence(row=ROW._replace(attempt=2)), "it took 2 tries"),
        (evidence(starts=()), "it started 0 times"),
        (evidence(starts=(FIRST, SECOND)), "without any reason"),
        (evidence(starts=(CUT, SECOND)), "without any reason"),
        (evidence(starts=(CUT, SECOND), kills=(KILL,)), "0 kills are counted"),
        (evidence(starts=(replace(CUT, seen=5_500), SECOND), kills=(KILL,)), "overlap"),
        (evidence(starts=(CUT, SECOND), kills=(replace(KILL, at=5_500),)), "overlap"),
        (evidence(starts=(CUT,)), "never came to its end"),
        (evidence(starts=(CUT,), kills=(KILL,)), "without having run to its end"),
        (evidence(row=ROW._replace(kills=1)), "more kills are counted"),
        (evidence(RETRIED, ROW._replace(attempt=2), (CUT, LATER)), "follows an unfinished"),
        (
            evidence(RETRIED, ROW._replace(attempt=2), (FIRST, replace(LATER, at=50_000_000))),
            "before its backoff",
        ),
        (evidence(replace(PLAN, delay=1.0)), "before its delay"),
        (
            evidence(row=ROW._replace(state="failed", error_code="worker-died", kills=1)),
            "worker-died after 1 kills",
        ),
        (evidence(faults=["integrity_check: page 3"]), "integrity_check"),
    ],
)
def test_each_broken_promise_is_found(given: Evidence, finding: str) -> None:
    """What is lost, doubled, started without reason, overlapping, early or wrong is named."""
    assert any(finding in line for line in findings(given)), findings(given)


def test_a_recovery_counts_from_the_kill() -> None:
    """The time is that from the signal to the next start."""
    given = evidence(row=ROW._replace(kills=1), starts=(CUT, SECOND), kills=(KILL,))
    assert recoveries(given) == {"worker": [(SECOND.at - KILL.at) / 1e9]}
