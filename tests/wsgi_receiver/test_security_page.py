"""What ``docs/security.md`` says of the tests, of the limits and of itself."""

import ast
import re
from pathlib import Path

import pytest

from dispatcher_core.batch_wire import MAX_BATCH_BODY
from dispatcher_core.problems import STATUSES
from dispatcher_core.wire import MAX_JOB_BODY
from dispatcher_wsgi_receiver.body import BIG_BODY, BODY_TIMEOUT
from dispatcher_wsgi_receiver.server import HEADER_TIMEOUT

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (\d+) \| (.*) \|$", PAGE, re.MULTILINE)
NAMED = sorted(set(re.findall(r"`(\w+/test_\w+\.py)::(test_\w+)`", PAGE)))
WITHOUT_DEFENCE = {13}
"""What the trust model answers instead."""


def found_in(file):
    """The names of the tests that a file has."""
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("file", sorted({file for file, _ in NAMED}))
def test_each_named_test_exists(file):
    """A test that the page names is there under that name."""
    named = {name for each, name in NAMED if each == file}
    assert named - found_in(file) == set()


def test_each_attack_has_its_tests():
    """All attacks are listed once, in order, each with the tests of its defence."""
    numbers = [int(number) for number, _ in ROWS]
    assert numbers == list(range(1, len(ROWS) + 1))
    assert len(numbers) >= 45
    untested = {int(number) for number, rest in ROWS if "::test_" not in rest}
    assert untested == WITHOUT_DEFENCE


def test_every_mention_of_a_test_is_understood():
    """No name escapes the check by being written in another way."""
    assert PAGE.count("::") == len(re.findall(r"`\w+/test_\w+\.py::test_\w+`", PAGE))


def test_the_limits_are_those_of_the_code():
    """Sizes and times on the page are what the receiver keeps to."""
    mib = 1024 * 1024
    assert (mib, 16 * mib, mib) == (MAX_JOB_BODY, MAX_BATCH_BODY, BIG_BODY)
    assert (BODY_TIMEOUT, HEADER_TIMEOUT) == (10.0, 10.0)
    assert "| body of a job, of a batch | 1 MiB, 16 MiB | 413, unread |" in PAGE
    assert "| time of a body | 10 s, and 1 s for each 256 KiB that have come | 408 |" in PAGE
    assert STATUSES["timeout"] == 408
