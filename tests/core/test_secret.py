import os
import pty
import re
import subprocess
import sys

import pytest

from dispatcher_core.config import load_config
from dispatcher_core.keys import signing_key
from dispatcher_core.secret import new_secret

KEY = "DISPATCHER_BACKEND_SECRET"
OLD = "oldOldOLD1234567890abcdefXYZ"
PREVIOUS = "DISPATCHER_BACKEND_PREVIOUS_SECRETS"
OLDER, OLDEST = "olderOLDERolder1234567890abc", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def environment(**variables):
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("DISPATCHER_") and key != "APP_ENV"
    }
    return kept | variables


def run(folder, *arguments, **variables):
    return subprocess.run(
        [sys.executable, "-m", "dispatcher_core.secret", *arguments],
        cwd=folder,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
    )


def run_on_terminal(folder, answer, *arguments):
    """Runs the command with a terminal as its input; returns exit code and error output."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "dispatcher_core.secret", *arguments],
        cwd=folder,
        env=environment(),
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    os.close(theirs)
    os.write(ours, answer)
    _, errors = process.communicate(timeout=30)
    os.close(ours)
    return process.returncode, errors.decode()


@pytest.fixture
def env_file(tmp_path):
    path = tmp_path / ".env"
    path.write_bytes(b"# mine\r\nOTHER=1\r\n")
    return path


def with_old_value(path):
    path.write_text(f"# mine\nexport {KEY}='{OLD}' # keep\nOTHER=1")


@pytest.mark.parametrize("length", [32, 64, 128])
def test_a_new_secret_is_alphanumeric_and_accepted(length):
    """A secret has the length asked for, only letters and digits, and can sign."""
    secret = new_secret(length)
    assert length == len(secret)
    assert secret.isascii()
    assert secret.isalnum()
    assert secret.encode() == signing_key(secret)
    assert secret != new_secret(length)


@pytest.mark.parametrize("length", [32, 64, 128])
def test_show_without_replacing_prints_and_touches_nothing(tmp_path, length):
    """The secret alone goes to standard output; no file is needed and none is made."""
    done = run(tmp_path, "--length", str(length), "--show", "--no-replace")
    assert (done.returncode, done.stderr) == (0, "")
    assert length == len(done.stdout.strip())
    assert list(tmp_path.iterdir()) == []


def test_show_without_replacing_leaves_an_existing_file_alone(env_file):
    """--no-replace wins over everything that would write."""
    with_old_value(env_file)
    before = env_file.read_bytes(), env_file.stat().st_mtime_ns
    assert run(env_file.parent, "--show", "--no-replace", "--yes").returncode == 0
    assert before == (env_file.read_bytes(), env_file.stat().st_mtime_ns)


def test_by_default_the_secret_is_added_and_not_shown(env_file):
    """A 64-character secret is appended in the file's line ending; nothing prints it."""
    done = run(env_file.parent)
    content = env_file.read_bytes()
    start = b"# mine\r\nOTHER=1\r\n" + f"{KEY}=".encode()
    assert (done.returncode, done.stdout) == (0, "")
    assert content.startswith(start)
    assert content.endswith(b"\r\n")
    secret = content.removeprefix(start).removesuffix(b"\r\n").decode()
    assert len(secret) == 64
    assert secret.isalnum()
    assert secret not in done.stderr
    assert str(env_file) in done.stderr


def test_with_show_what_is_written_is_printed(env_file):
    """--show prints exactly the secret that is in the file afterwards."""
    done = run(env_file.parent, "--show", "--length", "40")
    assert done.returncode == 0
    assert len(done.stdout.strip()) == 40
    assert f"{KEY}={done.stdout.strip()}\r\n" in env_file.read_bytes().decode()


def test_an_empty_value_is_filled_unasked(env_file):
    """Only a value that would be lost needs a confirmation."""
    env_file.write_text(f"{KEY}=\nOTHER=1\n")
    assert run(env_file.parent).returncode == 0
    assert env_file.read_text().endswith("\nOTHER=1\n")
    assert len(env_file.read_text().splitlines()[0].removeprefix(f"{KEY}=")) == 64


def test_without_a_terminal_an_existing_value_is_kept(env_file):
    """Nobody can be asked: it is refused, and the way out is named."""
    with_old_value(env_file)
    before = env_file.read_bytes()
    done = run(env_file.parent, "--show")
    assert (done.returncode, done.stdout) == (1, "")
    assert "--yes" in done.stderr
    assert before == env_file.read_bytes()


def test_yes_replaces_exactly_the_value(env_file):
    """--yes answers the question; quotes, comment, export and the last line are kept."""
    with_old_value(env_file)
    done = run(env_file.parent, "--yes", "--show")
    secret = done.stdout.strip()
    assert done.returncode == 0
    assert f"# mine\nexport {KEY}='{secret}' # keep\nOTHER=1" == env_file.read_text()


@pytest.mark.parametrize(
    ("answer", "code"), [(b"y\n", 0), (b"YES\n", 0), (b"n\n", 1), (b"\n", 1), (b"\x04", 1)]
)
def test_on_a_terminal_it_asks_before_replacing(env_file, answer, code):
    """Only yes replaces; anything else, and the end of input, changes nothing."""
    with_old_value(env_file)
    returned, errors = run_on_terminal(env_file.parent, answer)
    assert code == returned
    assert "Replace it? [y/N]" in errors
    assert (OLD in env_file.read_text()) == (code == 1)


def test_on_a_terminal_yes_is_not_asked(env_file):
    """--yes answers before the question comes up."""
    with_old_value(env_file)
    returned, errors = run_on_terminal(env_file.parent, b"", "--yes")
    assert returned == 0
    assert "Replace" not in errors
    assert OLD not in env_file.read_text()


def test_a_file_that_does_not_exist_is_an_error(tmp_path):
    """A missing .env is refused, and not made."""
    done = run(tmp_path)
    assert done.returncode == 1
    assert "does not exist" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_another_file_can_be_named(tmp_path):
    """--env-file is written to in place of .env."""
    path = tmp_path / "sub" / "settings.env"
    path.parent.mkdir()
    path.write_text("")
    assert run(tmp_path, "--env-file", "sub/settings.env").returncode == 0
    assert path.read_text().startswith(f"{KEY}=")


@pytest.mark.parametrize("flags", [["--yes"], ["--rotate", "--yes"], ["--show", "--no-replace"]])
@pytest.mark.parametrize("place", [".env", "settings.env"])
def test_what_is_no_regular_file_is_refused_unread(tmp_path, place, flags):
    """A named pipe into which nobody writes is refused at once, also behind a link."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / place).symlink_to("pipe")
    done = run(tmp_path, "--env-file", "settings.env", *flags)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"dispatcher: {place} is not a regular file: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_folder_in_place_of_the_file_does_no_harm(tmp_path):
    """Some call a virtual environment .env; a secret can be shown all the same."""
    (tmp_path / ".env").mkdir()
    assert run(tmp_path, "--show", "--no-replace").returncode == 0
    done = run(tmp_path)
    assert (done.returncode, done.stderr) == (1, "dispatcher: cannot read .env: Is a directory\n")


@pytest.mark.parametrize("key", [KEY, f"{KEY}_FILE"])
def test_a_variable_of_the_environment_is_warned_of(env_file, key):
    """The file is written, and the variable that goes before it is named."""
    done = run(env_file.parent, **{key: "x" * 40})
    assert done.returncode == 0
    assert f"the environment sets {key}," in done.stderr
    assert KEY in env_file.read_text()


def test_beside_a_secret_file_no_secret_is_written(env_file):
    """Both forms in one file could not be loaded: it is refused."""
    env_file.write_text(f"{KEY}_FILE=/run/secrets/x\n")
    done = run(env_file.parent)
    assert done.returncode == 1
    assert f"{KEY}_FILE in line 1" in done.stderr
    assert f"{KEY}_FILE=/run/secrets/x\n" == env_file.read_text()


@pytest.mark.parametrize("key", ["APP_ENV", "DISPATCHER_ENV"])
@pytest.mark.parametrize("place", ["environment", ".env"])
@pytest.mark.parametrize(
    "flags", [[], ["--show", "--no-replace"], ["--show", "--yes"], ["--rotate", "--yes"]]
)
def test_production_is_refused(env_file, key, place, flags):
    """In production nothing is changed and nothing shown, whatever the flags."""
    if place == ".env":
        env_file.write_text(f"OTHER=1\n{key}=production # live\n")
    before = env_file.read_bytes()
    done = run(env_file.parent, *flags, **({key: "Production"} if place != ".env" else {}))
    assert (done.returncode, done.stdout) == (1, "")
    assert "warning: this is production" in done.stderr
    assert key in done.stderr
    assert before == env_file.read_bytes()


def test_a_local_environment_does_not_hide_production_in_the_file(env_file):
    """Either place is enough to refuse."""
    env_file.write_text("APP_ENV=production\n")
    assert run(env_file.parent, APP_ENV="local").returncode == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--length", "31"],
        ["--length", "129"],
        ["--length", "-64"],
        ["--length", "64.0"],
        ["--length", "many"],
        ["--length", "\u0663\u0663"],
        ["--length", "9" * 5000],
        ["--length"],
        ["--rotate-all"],
        ["surplus"],
        ["--no-replace"],
        ["--rotate", "--no-replace"],
        ["--rotate", "--no-replace", "--show"],
    ],
)
def test_wrong_usage_exits_2_and_changes_nothing(env_file, arguments):
    """Lengths outside 32 to 128, unknown flags, and what would do nothing are usage errors."""
    before = env_file.read_bytes()
    done = run(env_file.parent, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("dispatcher: ")
    assert before == env_file.read_bytes()


def test_rotating_keeps_the_secret_that_was_replaced(env_file):
    """The new one goes where the old one was, the old one into a line of its own."""
    with_old_value(env_file)
    done = run(env_file.parent, "--rotate", "--yes", "--show")
    new = done.stdout.strip()
    assert done.returncode == 0
    assert (len(new), new.isalnum()) == (64, True)
    assert env_file.read_text() == (
        f"# mine\nexport {KEY}='{new}' # keep\nOTHER=1\n{PREVIOUS}={OLD}\n"
    )
    assert new not in done.stderr
    assert OLD not in done.stderr


def test_rotating_adds_to_the_front_and_keeps_every_other_byte(env_file):
    """Older secrets stay, each once; quotes, comments, order and line ends are kept."""
    before = f'\ufeff# a\r\n export {PREVIOUS} = "{OLDER}, {OLD},{OLDEST},{OLDER}" # b\r\n\r\n'
    env_file.write_bytes(f"{before}{KEY}='{OLD}'\r\nOTHER=ü".encode())
    done = run(env_file.parent, "--rotate", "--yes", "--show", "--length", "32")
    assert done.returncode == 0
    after = before.replace(f"{OLDER}, {OLD},{OLDEST},{OLDER}", f"{OLD},{OLDER},{OLDEST}")
    assert env_file.read_bytes() == f"{after}{KEY}='{done.stdout.strip()}'\r\nOTHER=ü".encode()


def test_what_is_rotated_can_be_loaded(env_file):
    """Two rotations leave a file whose newest secret signs and whose others are accepted."""
    with_old_value(env_file)
    shown = [run(env_file.parent, "--rotate", "--yes", "--show").stdout.strip() for _ in range(2)]
    config = load_config({}, {}, env_file.parent)
    assert (shown[1], (shown[0], OLD)) == (config.secret, config.previous_secrets)


@pytest.mark.parametrize(("answer", "code"), [(b"y\n", 0), (b"n\n", 1), (b"\x04", 1)])
def test_rotating_asks_on_a_terminal(env_file, answer, code):
    """The question says that the secret before goes on being accepted; only yes rotates."""
    with_old_value(env_file)
    before = env_file.read_bytes()
    returned, errors = run_on_terminal(env_file.parent, answer, "--rotate")
    assert code == returned
    assert "goes on being accepted" in errors
    assert "Rotate them? [y/N]" in errors
    assert (before == env_file.read_bytes()) == (code == 1)


def test_rotating_without_a_terminal_wants_yes(env_file):
    """Nobody can be asked: nothing is changed, and the way out is named."""
    with_old_value(env_file)
    before = env_file.read_bytes()
    done = run(env_file.parent, "--rotate", "--show")
    assert (done.returncode, done.stdout) == (1, "")
    assert "--yes" in done.stderr
    assert before == env_file.read_bytes()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("OTHER=1\n", f"has no {KEY} to keep: make the first one without --rotate"),
        (f"{KEY}=\n{PREVIOUS}={OLDER}\n", f"has no {KEY} to keep"),
        (f"{KEY}_FILE=key\n", f"{KEY}_FILE in line 1, and .*: add that file's content to"),
        (
            f"{KEY}={OLD}\n{PREVIOUS}_FILE=keys\n",
            f"{PREVIOUS}_FILE in line 2, and .*: add the value",
        ),
        (f"{KEY}=secret\n", f"line 1: {KEY} cannot be kept: "),
        (f"{KEY}={OLD},{OLDER}\n", f"line 1: {KEY} cannot be kept: "),
        (f"{KEY}={OLD}\n{PREVIOUS}={OLDER},short\n", f"line 2: {PREVIOUS} cannot be kept: "),
    ],
)
def test_what_cannot_be_rotated_is_refused(env_file, content, problem):
    """It changes nothing, and says what to do: in place of a file that no receiver could load."""
    env_file.write_text(content)
    done = run(env_file.parent, "--rotate", "--yes", "--show")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.search(problem, done.stderr)
    assert len(done.stderr.splitlines()) == 1
    assert OLD not in done.stderr
    assert content == env_file.read_text()


@pytest.mark.parametrize("key", [KEY, f"{KEY}_FILE", PREVIOUS, f"{PREVIOUS}_FILE"])
def test_rotating_warns_of_what_the_environment_sets(env_file, key):
    """Either variable, in either form, would hide what was written."""
    with_old_value(env_file)
    done = run(env_file.parent, "--rotate", "--yes", **{key: OLDER})
    assert done.returncode == 0
    assert f"warning: the environment sets {key}," in done.stderr
    assert OLDER not in done.stderr


@pytest.mark.parametrize("content", [b"\xff\n", b'DISPATCHER_TIMEOUT="open\n'])
def test_a_file_that_cannot_be_understood_is_refused(env_file, content):
    """It is left as it is, with one line that says why."""
    env_file.write_bytes(content)
    done = run(env_file.parent, "--yes")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert content == env_file.read_bytes()


def test_the_help_has_an_example(tmp_path):
    """--help ends with commands to copy."""
    done = run(tmp_path, "--help")
    assert done.returncode == 0
    assert "dispatcher secret --length 64 --show --no-replace" in done.stdout
