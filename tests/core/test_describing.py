import sys

import pytest

from dispatcher_core.describing import describe, message_of, shown


class Speechless(Exception):
    """An exception whose text is no text, or something worse."""

    def __str__(self) -> str:
        return self.args[0]()


class Shapeless:
    """A value whose ``repr`` fails."""

    def __repr__(self) -> str:
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("it is wrong"), "ValueError: it is wrong"),
        (ValueError("one\n  two\r\n\u2028three\n"), "ValueError: one two three"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (ValueError("ends with:"), "ValueError: ends with:"),
        (type("Odd\nName", (BaseException,), {})("x"), "Odd Name: x"),
        (ValueError("x" * 600), f"ValueError: {'x' * 488}…"),
    ],
)
def test_an_exception_is_one_line(error, line):
    """Class and text, without line breaks, and cut where it is long."""
    assert describe(error) == line


@pytest.mark.parametrize("speak", [lambda: 1 / 0, sys.exit, lambda: 7, lambda: "" + input])
def test_an_exception_without_a_text_is_described(speak):
    """Whatever its ``__str__`` raises stays inside."""
    assert message_of(Speechless(speak)) == "(the error has no readable message)"
    assert describe(Speechless(speak)) == "Speechless: (the error has no readable message)"


def test_a_text_is_kept_as_it_is():
    """The message alone keeps its lines and its length."""
    assert message_of(ValueError("one\ntwo" * 1000)) == "one\ntwo" * 1000


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "'a'"),
        ([1], "[1]"),
        (10**5000, "(int)"),
        (Shapeless(), "(Shapeless)"),
        ("x" * 600, f"'{'x' * 499}…"),
    ],
    ids=["text", "list", "integer", "shapeless", "long"],
)
def test_a_value_is_shown(value, text):
    """As in code, cut where it is long; else by its type."""
    assert shown(value) == text
