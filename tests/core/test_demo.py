"""``dispatcher demo`` as a program, and what it counts."""

import contextlib
import hashlib
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

import dispatcher_core
from dispatcher_core.demo import files, jobs
from dispatcher_core.demo.checks import problems
from dispatcher_core.demo.files import Survey, survey
from dispatcher_core.demo.limits import Limits
from dispatcher_core.demo.play import Played, Survival
from dispatcher_core.demo.screen import Screen
from dispatcher_core.errors import DeliveryError, DispatcherError
from dispatcher_core.status import BatchStatus, JobStatus, Progress

PATIENCE = 60
NOW = datetime(2025, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Demo:
    """Starts the demo where nothing around it fits, and looks at what it leaves behind."""

    place: Path

    @property
    def temporary(self) -> Path:
        return self.place / "temporary"

    def start(self, *arguments: str, **streams) -> subprocess.Popen:
        """The demo, running, with its streams as text."""
        settings = {"TMPDIR": str(self.temporary), "DISPATCHER_QUEUE_URL": "no:queue"}
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
        return subprocess.Popen(
            [sys.executable, "-m", "dispatcher_core", "demo", *arguments],
            cwd=self.place,
            env=os.environ | settings,
            text=True,
            # A shell that starts the tests in the background lets them ignore this signal.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            **streams,
        )

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code and output."""
        process = self.start(*arguments)
        output, errors = process.communicate(timeout=PATIENCE)
        return process.returncode, output, errors

    def processes(self) -> dict[int, list[bytes]]:
        """Its processes that run now, by id, with their arguments."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if f"TMPDIR={self.temporary}".encode() in (folder / "environ").read_bytes():
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().split(b"\0")
        return found

    def left_nothing(self) -> bool:
        """Whether no process of it runs, and no file of it is there."""
        return not self.processes() and not list(self.temporary.iterdir())


@pytest.fixture
def demo(tmp_path):
    """The demo in a folder whose settings are wrong for it, or no settings at all."""
    made = Demo(tmp_path / "around")
    made.temporary.mkdir(parents=True)
    (made.place / ".env").write_text("DISPATCHER_BACKEND_URL=ftp://nowhere\n")
    (made.place / "dispatcher.toml").write_text("no TOML at all")
    return made


@pytest.fixture
def folder(tmp_path):
    """A folder with text of several kinds, and with what is no text."""
    made = tmp_path / "texts"
    (made / "below").mkdir(parents=True)
    (made / "plain.txt").write_bytes(b"one two\r\nthree\n\nfour")
    (made / "short").write_bytes(b"x")
    (made / "empty").write_bytes(b"")
    (made / "below" / "ümläut\n.md").write_text("é ß 語\n" * 300, encoding="utf-8")
    (made / "image").write_bytes(b"\x89PNG\x00\xff")
    (made / "zeros").write_bytes(b"a\0b")
    (made / "dangling").symlink_to("nowhere")
    (made / ".hidden").write_bytes(b"not to be counted")
    os.mkfifo(made / "pipe")
    return made


@pytest.fixture
def limits():
    """Time enough."""
    with Limits(PATIENCE) as made:
        yield made


def direct_count(paths):
    """Files, words and bytes, counted here."""
    contents = [path.read_bytes() for path in paths]
    words = sum(len(re.findall(rb"\S+", content)) for content in contents)
    return len(contents), words, sum(map(len, contents))


def test_a_folder_as_json(demo, folder):
    """The last line is one JSON object whose totals are those of a direct count."""
    code, output, errors = demo.run(str(folder), "--json")
    assert code == 0, errors
    figures = json.loads(output)
    texts = [folder / "plain.txt", folder / "short", *(folder / "below").iterdir()]
    assert (figures["files"], figures["words"], figures["bytes"]) == direct_count(texts)
    assert figures["skipped"] == {"binary": 2, "empty": 1, "missing": 1, "special": 1}
    assert (figures["ok"], figures["problems"]) == (True, [])
    assert figures["states"] == {"succeeded": 7, "refused": 1}
    assert figures["attempts"] == {"1": 6, "3": 1}
    assert figures["batch"].pop("seconds") >= 0
    assert figures["batch"] == {"state": "succeeded", "total": 3, "succeeded": 3, "failed": 0}
    assert figures["failing_twice"] == {"state": "succeeded", "attempts": 3}
    assert figures["unknown"] == {"code": "unknown-job", "status": 422}
    assert figures["delayed"]["waited"] >= 1
    assert figures["killed"]["state"] == "succeeded"
    assert figures["seconds"] < 20
    assert "a batch of 3 jobs is accepted" in errors
    assert "files counted: 3 of 3\n" in errors
    assert demo.left_nothing()


def test_on_a_terminal(demo, folder):
    """On a terminal the progress is a bar, drawn anew and gone when the table comes."""
    ours, theirs = pty.openpty()
    process = demo.start(str(folder), stdout=theirs)
    os.close(theirs)
    text = b""
    with os.fdopen(ours, "rb", buffering=0) as terminal, contextlib.suppress(OSError):
        while piece := terminal.read(4096):
            text += piece
    assert process.wait(PATIENCE) == 0, process.stderr.read()
    process.stderr.close()
    shown = text.decode().replace("\r\n", "\n")
    assert re.search(
        r"\r\[#+\]  100 %  files counted: 3 of 3 *\r\[[#.]+\] .*results fetched", shown
    )
    _, table = shown.split("results fetched: 3 of 3")
    assert not re.search(r"(counted|fetched): \d of 3\n", shown)
    assert re.match(r" *\r +\rstates  ", table)
    number, words, size = direct_count(
        [folder / "plain.txt", folder / "short", *(folder / "below").iterdir()]
    )
    assert f"{number} files, {words} words, {size} bytes\n" in table
    assert "\x1b" not in shown
    assert demo.left_nothing()


def test_by_default_it_reads_its_own_source(demo):
    """Without a folder it counts at least 50 source files of ours, and all is right."""
    code, output, errors = demo.run()
    assert (code, errors) == (0, "")
    assert 50 <= int(re.match(r"(?:the first )?(\d+) text files of the ", output)[1]) <= 300
    assert re.search(r"^files counted: (\d+) of \1$", output, re.MULTILINE)
    assert re.search(r"^all right +yes", output, re.MULTILINE)
    assert demo.left_nothing()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone", "No such file or directory"),
        ("texts/plain.txt", "Not a directory"),
        ("empty", "there are no text files of the folder"),
        ("texts", "there are no text files of the folder 'texts' (skipped: 1 binary)"),
        ("", "FOLDER is empty"),
    ],
    ids=["missing", "a file", "nothing in it", "nothing but binary files", "no name"],
)
def test_a_folder_that_is_refused(demo, name, message):
    """One line says what is wrong with the folder; exit 1."""
    (demo.place / "empty").mkdir()
    (demo.place / "texts").mkdir()
    (demo.place / "texts" / "plain.txt").write_bytes(b"\xff\xfe")
    code, output, errors = demo.run(name)
    assert (code, output, errors.count("\n")) == (1, "", 1)
    assert message in errors
    assert demo.left_nothing()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_is_stopped(demo, folder, number):
    """A signal ends it in good order: one line, exit 128 and the signal, nothing left."""
    process = demo.start(str(folder))
    with process.stdout, process.stderr:
        while not process.stdout.readline().startswith("receiver at"):
            assert process.poll() is None
        process.send_signal(number)
        assert process.wait(PATIENCE) == 128 + number
        assert process.stderr.read().count("\n") == 1
    assert demo.left_nothing()


@pytest.mark.parametrize("program", [b"serve", b"work"])
def test_a_program_of_its_own_dies(demo, folder, program):
    """Where the receiver or the worker dies under it, one line says so; exit 1."""
    process = demo.start(str(folder))
    with process.stdout, process.stderr:
        while not process.stdout.readline().startswith("receiver at"):
            assert process.poll() is None
        (victim,) = [pid for pid, words in demo.processes().items() if program in words]
        os.kill(victim, signal.SIGKILL)
        assert process.wait(PATIENCE) == 1
        errors = process.stderr.read()
    assert errors.count("\n") == 1
    assert re.search("has ended with exit code -9|Connection (refused|reset)", errors)
    # Its workers end by themselves, and soon, once their supervisor has died.
    Limits(PATIENCE).until(lambda: demo.left_nothing() or None, "waiting for the workers to end")


def test_a_file_vanishes(demo, folder):
    """A file that is gone when its job runs is named in one line; exit 1."""
    process = demo.start(str(folder))
    with process.stdout, process.stderr:
        process.stdout.readline()
        (folder / "plain.txt").unlink()  # no job runs before two programs have started
        assert process.wait(PATIENCE) == 1
        errors = process.stderr.read()
    assert errors == (
        f"dispatcher: {str(folder / 'plain.txt')!r} was not counted:"
        " it vanished while the demo ran\n"
    )
    assert demo.left_nothing()


def test_it_needs_the_other_packages():
    """With core alone it says what to install."""
    source = Path(dispatcher_core.__file__).parents[1]
    code = (
        "import sys; from argparse import Namespace\n"
        f"sys.path.insert(0, {str(source)!r})\n"
        "from dispatcher_core.demo.command import command\n"
        "command.run(Namespace(folder=None, json=False))\n"
    )
    ended = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.endswith(
        "pip install dispatcher-http-sender dispatcher-wsgi-receiver dispatcher-local-queue\n"
    )


def test_the_job_and_the_direct_count_agree(folder, tmp_path, limits):
    """What a job counts line by line is what the survey counted in one piece."""
    for file in survey(str(folder), limits).files:
        expected = {"words": file.words, "bytes": file.size, "sha256": file.sha256}
        assert jobs.count(str(file.path), str(tmp_path / "note.json")) == expected
        assert hashlib.sha256(file.path.read_bytes()).hexdigest() == file.sha256


def test_a_second_attempt_is_added_up_once(folder, tmp_path, limits):
    """What is added up has each file once, however often it was counted."""
    notes = tmp_path / "notes"
    notes.mkdir()
    files = survey(str(folder), limits).files
    for number, file in [*enumerate(files), (0, files[0])]:
        jobs.count(str(file.path), str(notes / f"{number}.json"))
    number, words, size = direct_count([file.path for file in files])
    assert jobs.total(str(notes)) == {"files": number, "words": words, "bytes": size}


def test_a_name_that_is_not_utf8(tmp_path, limits):
    """A file whose name JSON cannot hold is skipped."""
    (tmp_path / "good").write_text("a b")
    (tmp_path / os.fsdecode(b"bad-\xff")).write_text("a b")
    found = survey(str(tmp_path), limits)
    assert ([file.path.name for file in found.files], dict(found.skipped)) == (
        ["good"],
        {"not named in UTF-8": 1},
    )


def test_files_that_are_not_as_long_as_they_say(tmp_path, limits):
    """What the system makes up when it is read is skipped: it may block or change."""
    (tmp_path / "good").write_text("a b")
    (tmp_path / "none").symlink_to("/proc/version")
    (tmp_path / "page").symlink_to("/sys/devices/system/cpu/online")
    found = survey(str(tmp_path), limits)
    assert ([file.path.name for file in found.files], dict(found.skipped)) == (
        ["good"],
        {"empty": 1, "special": 1},
    )


def test_a_folder_that_is_gone(tmp_path, limits, monkeypatch):
    """A working directory that was deleted is no folder to be read."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(DispatcherError, match=r"cannot read the folder '\.': No such file"):
        survey(".", limits)


def test_it_stops_at_so_many_files(tmp_path, limits, monkeypatch):
    """Of more files than it takes, it takes the first ones and says so."""
    monkeypatch.setattr(files, "MOST_FILES", 2)
    for name in "cab":
        (tmp_path / name).write_text(name)
    found = survey(str(tmp_path), limits)
    assert [file.path.name for file in found.files] == ["a", "b"]
    assert str(found).startswith("the first 2 text files of the folder")


def test_of_its_own_files_it_takes_fewer(limits):
    """Without a folder it stops at 300 files, which it says; all others are left alone."""
    found = survey(None, limits)
    assert found.most == files.MOST_OWN_FILES == 300
    cut = replace(found, files=found.files[:50], most=50)
    assert str(cut).startswith("the first 50 text files of the checkout")


def test_a_file_that_is_too_large(tmp_path, limits, monkeypatch):
    """What exceeds the bytes that it takes in all is skipped."""
    monkeypatch.setattr(files, "_MOST_BYTES", 5)
    for name, size in {"a": 3, "b": 3, "c": 2}.items():
        (tmp_path / name).write_text("x" * size)
    found = survey(str(tmp_path), limits)
    assert [file.path.name for file in found.files] == ["a", "c"]
    assert found.skipped == {"too large": 1}


def test_installed_packages_have_enough(limits, monkeypatch):
    """Where there is no checkout, the installed packages have at least 50 files."""
    monkeypatch.setattr(files, "_PACKAGE", Path("/usr/lib/site-packages/dispatcher_core"))
    found = survey(None, limits)
    packages = {file.path.relative_to(Path(__file__).parents[2]).parts[1] for file in found.files}
    assert found.place == "the installed packages"
    assert len(found.files) >= 50
    assert packages >= {"core", "http_sender", "wsgi_receiver", "local_queue"}


def test_the_time_is_up():
    """When its time is up, the error says what it was doing."""
    with pytest.raises(DispatcherError, match="0 s are up while looking for text files"):
        survey(None, Limits(0))


@pytest.fixture
def played(folder, tmp_path, limits):
    """A survey of the folder, and what a run comes to in which all is right."""
    found = survey(str(folder), limits)
    counts = [jobs.count(str(file.path), str(tmp_path / "note")) for file in found.files]
    number, words, size = direct_count([file.path for file in found.files])
    total = {"files": number, "words": words, "bytes": size}
    survived = ended("demo-survive", result={"killed": 7, "ended": 8})
    return found, {
        "batch": ended_batch(succeeded=number),
        "total": ended("demo-total", result=total),
        "counted": [ended("demo-count", result=count) for count in counts],
        "stumbled": ended("demo-stumble", attempt=3),
        "delayed": ended("demo-later", started_at=NOW.replace(second=1)),
        "refused": DeliveryError("unknown", "unknown-job", status=422),
        "survival": Survival(survived, 7, 0.1),
    }


def ended(job: str, **facts) -> JobStatus:
    """The status of a job that succeeded, but for these facts."""
    usual = {"state": "succeeded", "attempt": 1, "started_at": NOW, "finished_at": NOW}
    return JobStatus(id="1", job=job, queue="default", created_at=NOW, **usual | facts)


def ended_batch(succeeded: int, failed: int = 0) -> BatchStatus:
    """The status of a batch of which so many jobs succeeded and failed."""
    counters = {"pending": 0, "succeeded": succeeded, "failed": failed, "cancelled": 0}
    total = succeeded + failed
    return BatchStatus(id="1", state="succeeded", total=total, **counters, created_at=NOW)


def problems_with(played: tuple[Survey, dict], **changes) -> list[str]:
    """The problems of a run that went otherwise."""
    found, facts = played
    return problems(found.files, Played(**facts | changes))


def test_nothing_is_wrong(played):
    """Where all is right there is no problem."""
    assert problems_with(played) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"batch": ended_batch(succeeded=4)}, "'succeeded': 4"),
        ({"batch": ended_batch(succeeded=2, failed=1)}, "'failed': 1"),
        ({"total": ended("t", state="failed")}, "t did not succeed"),
        ({"total": ended("t", result={"files": 2, "words": 1, "bytes": 1})}, "t added up"),
        ({"stumbled": ended("s", attempt=1)}, "took 1 attempts"),
        ({"stumbled": ended("s", attempt=3, state="failed")}, "s did not succeed"),
        ({"delayed": ended("l")}, "waited 0.000 s"),
        ({"refused": None}, "it was accepted"),
        ({"refused": DeliveryError("no", "bad-signature", status=401)}, "not refused as that: no"),
        ({"survival": Survival(ended("k", result={"killed": 7, "ended": 7}), 7, 0.1)}, "oddly"),
        ({"survival": Survival(ended("k", result={"killed": 6, "ended": 8}), 7, 0.1)}, "oddly"),
    ],
    ids=[
        "one job more",
        "one failed",
        "no total",
        "wrong total",
        "never failed",
        "failed",
        "at once",
        "accepted",
        "signature",
        "not killed",
        "another",
    ],
)
def test_a_scene_goes_wrong(played, changes, problem):
    """Each part of the demo that did not go as it should is a problem of its own."""
    (text,) = problems_with(played, **changes)
    assert problem in text


def test_a_file_is_miscounted(played):
    """A job whose count differs from the direct one in anything is a problem."""
    found, facts = played
    for name, wrong in {"words": -1, "bytes": -1, "sha256": ""}.items():
        first, *others = facts["counted"]
        odd = ended("demo-count", result=first.result | {name: wrong})
        (text,) = problems_with(played, counted=[odd, *others])
        assert text.startswith(f"{str(found.files[0].path)!r} is miscounted")


def test_a_file_that_was_not_read(played):
    """A job that failed for its own file is one problem, and nothing else is wrong."""
    found, facts = played
    first, *others = facts["counted"]
    counted = [replace(first, state="failed", result=None), *others]
    total = direct_count([file.path for file in found.files[1:]])
    result = dict(zip(("files", "words", "bytes"), total, strict=True))
    (text,) = problems_with(
        played,
        counted=counted,
        batch=ended_batch(succeeded=2, failed=1),
        total=ended("demo-total", result=result),
    )
    assert text.startswith(f"{str(found.files[0].path)!r} was not counted")


def test_progress_elsewhere_is_a_line():
    """Where the output is no terminal, the progress is lines without a bar."""
    stream = io.StringIO()
    Screen(stream).progress("files counted:", Progress(2, 2))
    assert stream.getvalue() == "files counted: 2 of 2\n"
