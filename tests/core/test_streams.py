"""The ``dispatcher`` program with standard streams that are closed, full or of few characters."""

import io
import os
import pty
import shlex
import subprocess
import sys

import pytest

from dispatcher_core.cli import main
from dispatcher_core.demo.screen import Screen
from dispatcher_core.printing import printable
from dispatcher_core.status import JobError
from dispatcher_core.streams import prepare_streams

pytestmark = pytest.mark.usefixtures("empty_folder")

PROGRAM = (sys.executable, "-m", "dispatcher_core")
FULL = (
    "dispatcher: cannot write the output: No space left on device (the work itself may be done)\n"
)


@pytest.fixture
def shell():
    """Runs a command with redirections, by a shell: exit code, output and errors."""

    def run(redirections, *words, **environment):
        command = ["sh", "-c", f"exec {shlex.join(words)} {redirections}"]
        environment = {**os.environ, **environment}
        done = subprocess.run(command, env=environment, capture_output=True, timeout=60)
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    return run


@pytest.fixture
def ascii_output(monkeypatch):
    """Puts in place a standard output that takes nothing but ASCII, and gives its bytes."""

    def put():
        written = io.BytesIO()
        stream = io.TextIOWrapper(written, encoding="ascii", write_through=True)
        monkeypatch.setattr(sys, "stdout", stream)
        return written

    return put


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, ["--help"]),
        (0, ["config", "show"]),
        (0, ["config", "publish", "--force"]),
        (2, ["dispach"]),
        (2, ["status", "a/b"]),
    ],
)
def test_a_closed_output_changes_nothing(shell, code, words):
    """The exit code and what is told on the standard error are as ever."""
    assert shell(">&-", *PROGRAM, *words) == (code, "", shell(">/dev/null", *PROGRAM, *words)[2])
    assert shell(">&- 2>&- <&-", *PROGRAM, *words) == (code, "", "")


def test_a_closed_error_output_sends_nothing_elsewhere(shell, tmp_path):
    """What is meant for the standard error is not printed among the output."""
    (tmp_path / ".env").touch()
    code, output, _ = shell("2>&-", *PROGRAM, "secret", "--show")
    assert (code, len(output)) == (0, len("\n") + 64)
    assert shell("2>&-", *PROGRAM, "dispach") == (2, "", "")


def test_a_closed_input_is_empty(shell):
    """A payload that was to come from it is no JSON, and no question is asked."""
    code, output, errors = shell("<&-", *PROGRAM, "dispatch", "greet", "--payload", "-")
    assert (code, output) == (2, "")
    assert errors.startswith("dispatcher: --payload: the text is not JSON")
    assert errors.count("\n") == 1


def test_no_file_takes_the_place_of_a_closed_stream(shell, tmp_path):
    """Neither here nor in a process that is started."""
    look = (
        "import os; from pathlib import Path\n"
        "links = [os.readlink(f'/proc/self/fd/{number}') for number in range(3)]\n"
        "Path('links').write_text(' '.join(links))\n"
    )
    script = (
        "import subprocess, sys; from pathlib import Path\n"
        "from dispatcher_core.streams import prepare_streams\n"
        "prepare_streams()\n"
        "with Path('number').open('w') as file:\n"
        "    file.write(str(file.fileno()))\n"
        f"    subprocess.run([sys.executable, '-c', {look!r}], check=True)\n"
    )
    assert shell(">&- 2>&- <&-", sys.executable, "-c", script)[0] == 0
    assert (tmp_path / "number").read_text() == "3"
    assert (tmp_path / "links").read_text().split() == ["/dev/null"] * 3


@pytest.mark.parametrize(
    ("words", "unbuffered"),
    [(["--help"], ""), (["config", "show"], ""), (["config", "show"], "1")],
)
def test_a_full_disk_is_one_line(shell, words, unbuffered):
    """Output that cannot be written is told in one line, with exit code 1."""
    told = shell(">/dev/full", *PROGRAM, *words, PYTHONUNBUFFERED=unbuffered)
    assert told == (1, "", FULL)


def test_a_secret_that_cannot_be_shown_is_told_to_be_written(shell, tmp_path):
    """Where the secret was replaced, but could not be printed, both are told."""
    (tmp_path / ".env").touch()
    code, _, errors = shell(">/dev/full", *PROGRAM, "secret", "--show")
    written, lost = errors.splitlines(keepends=True)
    assert (code, lost) == (1, FULL)
    assert "DISPATCHER_BACKEND_SECRET is written to" in written


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-"])
def test_errors_that_nobody_can_read_keep_their_exit_code(shell, redirection):
    """A full disk under the standard error does not change what a command ends with."""
    assert shell(redirection, *PROGRAM, "dispach") == (2, "", "")
    code, output, _ = shell(redirection, *PROGRAM, "config", "publish", DISPATCHER_CONFIG="other")
    assert code == 0
    assert output.endswith("dispatcher.toml is written\n")


def test_what_an_output_cannot_encode_is_escaped(fake_dispatcher, ascii_output):
    """What a remote error says is shown with whatever characters there are."""
    error = JobError("exception", "ValueError", "caf\u00e9")
    fake_dispatcher.set_status("mine", state="failed", error=error)
    written = ascii_output()
    assert main(["status", "mine"]) == 0
    assert b"ValueError: caf\\xe9\n" in written.getvalue()


def test_a_folder_that_no_output_can_encode(shell, tmp_path):
    """A path that is not UTF-8 is escaped where it is printed."""
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    words = ("sh", "-c", f'cd "$0" && exec {shlex.join(PROGRAM)} config publish', str(folder))
    code, output, errors = shell("", *words, PYTHONIOENCODING="utf-8")
    assert (code, errors) == (0, "")
    assert output == f"{tmp_path}/caf\\udce9/dispatcher.toml is written\n"


def test_what_a_stream_of_the_demo_cannot_encode(ascii_output):
    """A name that the output's encoding lacks is shown escaped."""
    written = ascii_output()
    prepare_streams()
    Screen(sys.stdout).line("é\udc80")
    assert written.getvalue() == b"\\xe9\\udc80\n"


def test_an_answer_that_is_no_text(tmp_path):
    """What is typed in another encoding is no yes."""
    (tmp_path / ".env").write_text("DISPATCHER_BACKEND_SECRET=" + "A1b2" * 16 + "\n")
    ours, theirs = pty.openpty()
    os.write(ours, b"\xff\n")
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    try:
        done = subprocess.run(
            [*PROGRAM, "secret"], stdin=theirs, env=environment, capture_output=True, timeout=60
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.endswith(b"dispatcher: nothing was changed\n")


def test_text_without_what_steers_a_terminal():
    """White space is a blank; controls and changes of direction are replaced."""
    told = printable(" a\n\tb\u00a0\x1b[31mc\x00\u202ed\udcff\u00e9 ")
    assert told == "a b \ufffd[31mc\ufffd\ufffdd\ufffd\u00e9"


@pytest.mark.parametrize(
    "script",
    [
        "sys.stdout = io.TextIOWrapper(sys.stdout.buffer); main(['--version'])",
        "sys.stdin.readline(); main(['--version'])",
        "main(['--version']); main(['--version'])",
    ],
    ids=["wrapped anew", "read from", "twice"],
)
def test_a_program_that_has_used_its_streams(script):
    """Whoever calls ``main`` may have read, or put a stream of his own over one of these."""
    code = f"import io, sys; from dispatcher_core.cli import main; {script}"
    done = subprocess.run(
        [sys.executable, "-c", code], input=b"y\nz\n", capture_output=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.strip()


def test_an_application_that_puts_a_stream_over_the_output(shell, tmp_path):
    """What it wraps is still there when the command goes on."""
    script = (
        "import io, sys; from dispatcher_core import streams\n"
        "streams.prepare_streams()\n"
        "sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding='utf-8')\n"
        "print('still here')\n"
        "streams.flush(sys.stdout)\n"
    )
    assert shell("", sys.executable, "-c", script) == (0, "still here\n", "")


def test_streams_in_memory(monkeypatch):
    """An embedding program may have neither a descriptor nor an open stream."""
    output, closed = io.StringIO(), io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", output)
    monkeypatch.setattr(sys, "__stdout__", output)
    monkeypatch.setattr(sys, "stderr", closed)
    assert main(["--version"]) == 0
    assert output.getvalue().strip()
