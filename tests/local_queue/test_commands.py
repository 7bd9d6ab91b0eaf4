"""What ``dispatcher work`` and ``dispatcher health`` are told, and how they refuse."""

import pytest

from dispatcher_core.cli import main


@pytest.fixture
def refused(capsys, monkeypatch, path):
    """Runs a command that refuses, and tells its exit code and the one line that it printed."""
    monkeypatch.setenv("DISPATCHER_QUEUE_URL", f"sqlite:///{path}")
    monkeypatch.chdir(path.parent)

    def refused(*arguments: str) -> tuple[int, str]:
        code = main(arguments)
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("dispatcher: ")
        assert captured.err.count("\n") == 1
        return code, captured.err

    return refused


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--queues", ""], "'' cannot name a queue"),
        (["--queues", "a,,b"], "'' cannot name a queue"),
        (["--queues", "a b"], "'a b' cannot name a queue"),
        (["--processes", "0"], "'0' is no whole number from 1 to 1000"),
        (["--processes", "-1"], "'-1' is no whole number from 1 to 1000"),
        (["--processes", "two"], "'two' is no whole number from 1 to 1000"),
        (["--processes", "\u00b2"], "is no whole number from 1 to 1000"),
        (["--processes", "1000000000000000000000"], "is no whole number from 1 to 1000"),
        (["--max-jobs", "0"], "'0' is no whole number from 1 to 1000000000"),
        (["--max-jobs", "1.5"], "'1.5' is no whole number from 1 to 1000000000"),
        (["--max-memory", "1" * 5000], "is no whole number from 1 to 1000000000"),
        (["--shutdown-timeout", "1e300"], "'1e300' is no number of seconds"),
        (["--max-time", "soon"], "'soon' is no number of seconds"),
        (["--max-time", "nan"], "'nan' is no number of seconds"),
        (["--max-time", "0"], "'0' seconds are too few"),
        (["--shutdown-timeout", "-1"], "'-1' is no number of seconds"),
        (["--shutdown-timeout", "inf"], "'inf' is no number of seconds"),
        (["--log-format", "xml"], "invalid choice: 'xml'"),
        (["-v", "-q"], "not allowed with argument"),
        (["--app-dir", "missing"], "--app-dir: 'missing' is no folder"),
        (["--burs"], "unrecognized arguments: --burs"),
        (["emails"], "unrecognized arguments: emails"),
    ],
    ids=lambda value: "=".join(value) if isinstance(value, list) else "",
)
def test_bad_arguments_of_work(refused, arguments, part, path) -> None:
    """A bad argument is one line that names it, exit code 2, and makes no file."""
    code, line = refused("work", *arguments)
    assert code == 2
    assert part in line
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("command", ["work", "health"])
def test_a_queue_of_another_kind(refused, command, monkeypatch) -> None:
    """A queue URL that is not one of SQLite is refused with the way to write one."""
    monkeypatch.setenv("DISPATCHER_QUEUE_URL", "redis://localhost/0")
    code, line = refused(command)
    assert code == 2
    assert "sqlite:///relative/path" in line


def test_the_working_directory_is_gone(refused, monkeypatch, tmp_path) -> None:
    """In a deleted folder nothing can be imported, which is one line with exit code 2."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    code, line = refused("work")
    assert code == 2
    assert "cannot look at '.': No such file or directory" in line


@pytest.mark.parametrize("command", ["work", "health"])
def test_help(command, capsys) -> None:
    """``--help`` shows an example and every option."""
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"dispatcher {command}" in shown.splitlines()[-1]


def test_a_missing_folder(refused, monkeypatch, tmp_path) -> None:
    """``work`` does not start where it could keep nothing, and says what to do."""
    monkeypatch.setenv("DISPATCHER_QUEUE_URL", f"sqlite:///{tmp_path}/missing/q.sqlite3")
    code, line = refused("work", "-q")
    assert code == 1
    assert "make it, or set DISPATCHER_QUEUE_URL" in line


def test_no_database(refused, path) -> None:
    """``work`` does not start on a file that is something else, and leaves it alone."""
    path.write_text("no database\n" * 100)
    code, line = refused("work", "-q")
    assert code == 1
    assert "no SQLite database" in line
    assert path.read_text() == "no database\n" * 100
