from argparse import ArgumentTypeError

import pytest

from dispatcher_core.arguments import folder, seconds, some_seconds, whole

HUGE = "1" * 5000


@pytest.mark.parametrize(
    "text", ["", "x", "-4", "10", "1.5", "1_0", "+5", "\u0665", "\u00b2", " 5", "5\n", HUGE]
)
def test_a_number_out_of_bounds_or_none_at_all(text):
    """Whatever is no whole number in ASCII digits within the bounds is refused with them."""
    with pytest.raises(ArgumentTypeError, match=r"is no whole number from -3 to 9$"):
        whole(-3, 9)(text)


@pytest.mark.parametrize(("text", "number"), [("-3", -3), ("9", 9), ("007", 7), ("-0", 0)])
def test_a_whole_number(text, number):
    """The bounds themselves are within."""
    assert whole(-3, 9)(text) == number


@pytest.mark.parametrize("number", [10**9 + 1, 10**20])
def test_no_number_is_without_bounds(number):
    """What is given no upper bound has one that a database and a clock can bear."""
    assert whole(1)(str(10**9)) == 10**9
    with pytest.raises(ArgumentTypeError, match="from 1 to 1000000000"):
        whole(1)(str(number))


@pytest.mark.parametrize(
    "text", ["", "soon", "-1", "-1e-9", "nan", "inf", "1e300", "1e10", "1_0", "\u0661", HUGE]
)
def test_no_seconds(text):
    """What is no number of seconds, or more than some thirty years, is refused."""
    for parse in (seconds, some_seconds):
        with pytest.raises(ArgumentTypeError, match="is no number of seconds from 0 to"):
            parse(text)


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("1.5", 1.5), ("1e3", 1000), (".5", 0.5)])
def test_seconds(text, number):
    """A decimal number, with or without an exponent."""
    assert seconds(text) == number


def test_some_seconds():
    """Where there have to be some, 0 is refused."""
    assert some_seconds("0.1") == 0.1
    with pytest.raises(ArgumentTypeError, match="too few"):
        some_seconds("0.0")


def test_a_folder_is_absolute(tmp_path, monkeypatch):
    """What is relative is taken from the working directory."""
    (tmp_path / "app").mkdir()
    monkeypatch.chdir(tmp_path)
    assert folder("app") == tmp_path / "app"
    assert folder(".") == tmp_path


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("missing", "'missing' is no folder"),
        ("file", "'file' is no folder"),
        ("a\0b", "is no folder"),
        ("a" * 5000, "File name too long"),
    ],
)
def test_no_folder(tmp_path, monkeypatch, text, problem):
    """What is no folder, or cannot be looked at, is refused."""
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArgumentTypeError, match=problem):
        folder(text)


def test_the_working_directory_is_gone(tmp_path, monkeypatch):
    """In a folder that is deleted nothing relative can be found."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(ArgumentTypeError, match=r"cannot look at '\.': No such file"):
        folder(".")
