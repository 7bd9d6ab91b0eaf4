"""Dispatching while the receiver's processes are killed: a short run, and its verdict."""

from dataclasses import replace

import pytest

from .kills import Evidence, Row, Sent, Size, figures, findings, run

ACKNOWLEDGED = Sent(1, "a")
FAILED = Sent(2, "b", "timeout")
AGAIN = Sent(2, "b", duplicate=True)
KEPT = Evidence([ACKNOWLEDGED, FAILED], [AGAIN], [Row("a", 1), Row("b", 2)])


def test_every_job_is_there_once_while_workers_are_killed(tmp_path):
    """Of 400 dispatches under 8 kills each is in the table once, and nothing else is."""
    evidence = run(tmp_path, Size(dispatches=400, kills=8, seed=1))
    print(*figures(evidence), sep="\n")
    assert list(findings(evidence)) == []
    assert (len(evidence.rows), evidence.kills) == (400, 8)


def test_kept_promises_are_not_complained_about():
    """Nothing is found where nothing is wrong."""
    assert list(findings(KEPT)) == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (replace(KEPT, rows=[Row("b", 2)]), "a is 0 times in the table"),
        (replace(KEPT, rows=[Row("a", 1)]), "b is 0 times in the table"),
        (replace(KEPT, rows=[*KEPT.rows, Row("a", 1)]), "a is 2 times in the table"),
        (replace(KEPT, rows=[*KEPT.rows, Row("c", 3)]), "nobody dispatched it"),
        (replace(KEPT, rows=[Row("a", 7), Row("b", 2)]), "nobody dispatched it"),
        (replace(KEPT, again=[]), "b was not acknowledged"),
        (replace(KEPT, again=[FAILED]), "b was not acknowledged"),
        (replace(KEPT, sent=[ACKNOWLEDGED, replace(FAILED, code="internal")]), "with internal"),
        (replace(KEPT, others=1), "1 rows are in other tables"),
        (replace(KEPT, integrity="row 3 missing from index"), "row 3 missing"),
        (replace(KEPT, exit_code=3), "exit code 3"),
    ],
)
def test_a_broken_promise_is_found(given, words):
    """Each kind of fault is found, once."""
    (found,) = findings(given)
    assert words in found
