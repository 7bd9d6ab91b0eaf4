import io
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pytest

from dispatcher_core import Dispatcher, Job, JobError, Pong, Progress
from dispatcher_core.cli import main
from dispatcher_core.plugins import COMMANDS, plugin_names
from dispatcher_core.progressbar import bar
from dispatcher_core.wire import MAX_JOB_BODY

pytestmark = pytest.mark.usefixtures("empty_folder")

SECRET = "A1b2" * 16


@pytest.fixture
def run(capsys):
    """Runs a command in this process; gives its exit code, output and errors."""

    def run(*arguments):
        code = main(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def standard_input(monkeypatch):
    """Gives bytes on the standard input."""

    def give(data):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    return give


def one_error(output):
    """Checks that an output is one line of ours, and gives it."""
    assert output.startswith("dispatcher: ")
    assert output.count("\n") == 1
    return output


# The program


def test_help_lists_all_commands(run):
    """``--help`` shows each installed command with what it does, and an example."""
    code, output, errors = run("--help")
    assert (code, errors) == (0, "")
    assert "have the backend run a job" in output
    assert "example: dispatcher dispatch" in output
    for name in ("secret", "config", "ping", "dispatch", "status", "cancel"):
        assert f"\n    {name}" in output


@pytest.mark.parametrize("name", ["secret", "config", "ping", "dispatch", "status", "cancel"])
def test_each_command_has_help_with_an_example(run, name):
    """``COMMAND --help`` ends with an example."""
    code, output, _ = run(name, "--help")
    assert code == 0
    assert output.startswith(f"usage: dispatcher {name}")
    assert f"dispatcher {name}" in output.splitlines()[-1]


def test_the_version_is_told(run):
    """``--version`` prints the version of the package."""
    code, output, _ = run("--version")
    assert (code, output.strip()) == (0, version("dispatcher-core"))


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "COMMAND"),
        (["--wrong"], "unrecognized arguments: --wrong (see dispatcher --help)"),
        (["--versio"], "unrecognized arguments: --versio (see dispatcher --help)"),
        (["--wrong", "status", "a"], "--wrong (see dispatcher --help)"),
        (["secret", "--wrong"], "--wrong (see dispatcher secret --help)"),
        (["config", "show", "a"], "unrecognized arguments: a (see dispatcher config show --help)"),
        (["dispatch", "a", "--priority", "1" * 5000], "is no whole number from -100 to 100"),
        (["dispatch", "a", "--delay", "\u0661"], "is no number of seconds"),
        (["ping", "\x1b[31mred"], "arguments: \N{REPLACEMENT CHARACTER}[31mred (see"),
        (["dispach"], "'dispach'"),
        (["dispatch"], "JOB"),
        (["dispatch", "a", "b"], "unrecognized arguments: b"),
        (["dispatch", "a", "--payl", "{}"], "unrecognized arguments"),
        (["dispatch", "a", "--delay", "soon"], "--delay"),
        (["dispatch", "a", "--priority", "1.5"], "--priority"),
        (["dispatch", "a", "--delay"], "--delay"),
        (["status"], "ID"),
        (["status", "a", "x\ny"], "x y"),
        (["cancel", "a", "--force"], "--force"),
        (["config"], "publish | show"),
        (["ping", "there"], "there"),
    ],
)
def test_wrong_usage_is_one_line(run, arguments, problem):
    """Usage errors are one line on the standard error, with exit code 2."""
    code, output, errors = run(*arguments)
    assert (code, output) == (2, "")
    assert problem in one_error(errors)
    assert len(errors) < 600


def test_an_unknown_command_lists_the_known_ones(run):
    """Who misspells a command sees the right names."""
    _, _, errors = run("dispach")
    assert all(name in errors for name in plugin_names(COMMANDS))


def test_a_command_that_is_not_installed_says_what_to_install(run, monkeypatch):
    """Commands of our other packages are known by name."""
    monkeypatch.setattr("dispatcher_core.plugins.entry_points", lambda **selection: ())
    code, _, errors = run("work")
    assert code == 2
    assert "pip install 'dispatcher-local-queue'" in one_error(errors)


def test_only_the_wanted_command_is_loaded():
    """A command does not load the others."""
    script = (
        "import sys; from dispatcher_core.cli import main; main(['config', '--help']);"
        "print(*(name for name in ('config', 'ping', 'status')"
        " if f'dispatcher_core.commands.{name}' in sys.modules), file=sys.stderr)"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == "config\n"


def test_a_broken_command_does_not_hide_the_others(run, tmp_path, monkeypatch):
    """``--help`` lists the commands that load, and says which does not; that one is an error."""
    folder = tmp_path / "broken_command-1.0.dist-info"
    folder.mkdir()
    metadata = "Metadata-Version: 2.1\nName: broken-command\nVersion: 1.0\n"
    (folder / "METADATA").write_text(metadata)
    (folder / "entry_points.txt").write_text("[dispatcher.commands]\nbroken = no_such_module:x\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    code, output, errors = run("--help")
    assert code == 0
    assert "ping" in output
    assert "no_such_module" in errors
    code, _, errors = run("broken")
    assert code == 2
    assert "no_such_module" in one_error(errors)


@pytest.mark.parametrize(
    "arguments", [["ping"], ["dispatch", "a"], ["status", "a"], ["cancel", "a"]]
)
@pytest.mark.parametrize("backend", [[], ["--backend", "billing"]])
def test_a_missing_setting_is_one_line(run, arguments, backend):
    """Without settings each command names the variable to set, with exit code 2."""
    code, output, errors = run(*arguments, *backend)
    variable = "DISPATCHER_BACKEND_BILLING_URL" if backend else "DISPATCHER_BACKEND_URL"
    assert (code, output) == (2, "")
    assert variable in one_error(errors)


@pytest.mark.parametrize("arguments", [["ping"], ["dispatch", "a"], ["config", "show"]])
def test_a_wrong_setting_is_one_line(run, monkeypatch, arguments):
    """A setting that is wrong is named, with exit code 2."""
    monkeypatch.setenv("DISPATCHER_TIMEOUT", "never")
    code, output, errors = run(*arguments)
    assert (code, output) == (2, "")
    assert "DISPATCHER_TIMEOUT" in one_error(errors)


def test_an_interruption_is_quiet(run, monkeypatch, fake_dispatcher):
    """Ctrl-C ends a command without a traceback, with exit code 130."""

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(Dispatcher, "status", interrupted)
    assert run("status", "a") == (130, "", "")


@pytest.mark.parametrize("arguments", [["--help"], ["config", "show"]])
def test_a_reader_that_has_gone_is_no_error(arguments):
    """``dispatcher ... | head`` ends quietly when nobody reads any more."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "dispatcher_core", *arguments],
            stdout=write_end,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    finally:
        os.close(write_end)
    assert done.stderr == b""


def test_what_the_system_refuses_is_one_line(run, monkeypatch, fake_dispatcher):
    """An error of the system that no command has foreseen is told without a traceback."""

    def refused(*arguments, **options):
        raise PermissionError(13, "Permission denied", "/some/file")

    monkeypatch.setattr(Dispatcher, "status", refused)
    assert run("status", "a") == (1, "", "dispatcher: /some/file: Permission denied\n")


def test_the_module_is_the_program():
    """``python -m dispatcher_core`` takes the same arguments and exit codes."""
    done = subprocess.run(
        [sys.executable, "-m", "dispatcher_core", "dispach"], capture_output=True, timeout=60
    )
    assert done.returncode == 2
    assert done.stderr.startswith(b"dispatcher: ")


# dispatcher dispatch


def test_dispatch_prints_the_id(run, fake_dispatcher):
    """The output is the id and nothing else."""
    code, output, errors = run("dispatch", "greet")
    [message] = fake_dispatcher.assert_dispatched("greet", {}, "default", times=1)
    assert (code, output, errors) == (0, f"{message.id}\n", "")


def test_dispatch_takes_all_options(run, fake_dispatcher):
    """Payload, queue, delay, priority and id are sent."""
    code, output, _ = run(
        *("dispatch", "greet", "--payload", '{"name": "Zoë"}', "--queue", "mail"),
        *("--delay", "1.5", "--priority=-3", "--id", "mine"),
    )
    [message] = fake_dispatcher.dispatched
    assert (code, output) == (0, "mine\n")
    assert (message.payload, message.queue) == ({"name": "Zoë"}, "mail")
    assert (message.delay, message.priority, message.id) == (1.5, -3, "mine")


def test_a_payload_may_come_from_a_file(run, fake_dispatcher, tmp_path):
    """``@file`` reads a file."""
    (tmp_path / "payload.json").write_text('{"a": [1, 2]}\n')
    assert run("dispatch", "greet", "--payload", "@payload.json")[0] == 0
    fake_dispatcher.assert_dispatched("greet", {"a": [1, 2]}, times=1)


def test_a_payload_may_come_from_the_standard_input(run, fake_dispatcher, standard_input):
    """``-`` reads the standard input."""
    standard_input('{"name": "Zoë"}'.encode())
    assert run("dispatch", "greet", "--payload", "-")[0] == 0
    fake_dispatcher.assert_dispatched("greet", {"name": "Zoë"}, times=1)


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[1]", "must be a JSON object"),
        ("null", "must be a JSON object"),
        ('{"a": NaN}', "NaN"),
        ('{"a": 1, "a": 2}', "same key"),
        ("\udcff", "not UTF-8"),
        ("@no-such-file", "cannot read 'no-such-file': No such file or directory"),
        ("@.", "cannot read '.': Is a directory"),
        ("@", "--payload"),
        ("@a\0b", "--payload"),
    ],
)
def test_a_wrong_payload_is_one_line(run, fake_dispatcher, payload, problem):
    """A payload that cannot be read is a usage error, and nothing is sent."""
    code, output, errors = run("dispatch", "greet", "--payload", payload)
    assert (code, output) == (2, "")
    assert problem in one_error(errors)
    fake_dispatcher.assert_nothing_dispatched()


@pytest.mark.parametrize("source", ["@payload.json", "-"])
def test_a_huge_payload_is_refused(run, fake_dispatcher, tmp_path, standard_input, source):
    """A payload over the limit is refused before it is parsed."""
    data = b'{"a":"' + b"x" * MAX_JOB_BODY + b'"}'
    (tmp_path / "payload.json").write_bytes(data)
    standard_input(data)
    code, _, errors = run("dispatch", "greet", "--payload", source)
    assert code == 2
    assert "over the limit" in one_error(errors)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["no good"], "cannot name a job"),
        (["greet", "--queue", "no good"], "cannot name a queue"),
        (["greet", "--delay=-1"], "--delay: '-1' is no number of seconds from 0 "),
        (["greet", "--delay", "nan"], "--delay: 'nan' is no number of seconds"),
        (["greet", "--delay", "1e9"], "delay=1000000000.0"),
        (["greet", "--priority", "101"], "'101' is no whole number from -100 to 100"),
        (["greet", "--wait", "--timeout", "-1"], "--timeout: '-1' is no number of seconds"),
        (["greet", "--wait", "--timeout", "nan"], "--timeout: 'nan' is no number of seconds"),
        (["greet", "--id", "a.b"], "cannot be an id"),
        (["greet", "--id", "a\nb"], "cannot be an id"),
        (["greet", "--timeout", "5"], "--wait"),
    ],
)
def test_a_job_that_cannot_be_sent_is_one_line(run, fake_dispatcher, arguments, problem):
    """What the dispatcher refuses is a usage error, and nothing is sent."""
    code, output, errors = run("dispatch", *arguments)
    assert (code, output) == (2, "")
    assert problem in one_error(errors)
    fake_dispatcher.assert_nothing_dispatched()


@pytest.mark.parametrize("code", ["unreachable", "unknown-job", "bad-signature", "queue-full"])
def test_a_failed_dispatch_keeps_the_id(run, fake_dispatcher, code):
    """Where sending fails, the id is printed, and the error says how to send it again."""
    fake_dispatcher.fail_next(code)
    exit_code, output, errors = run("dispatch", "greet")
    assert exit_code == 1
    assert f"--id {output.strip()}" in one_error(errors)
    assert run("dispatch", "greet", "--id", output.strip())[0] == 0


def test_a_failed_dispatch_writes_no_log_line():
    """Without any logging set up, the error is told once."""
    environment = {
        **os.environ,
        "DISPATCHER_BACKEND_URL": "http://127.0.0.1:9",
        "DISPATCHER_BACKEND_SECRET": SECRET,
        "DISPATCHER_SENDER": "refusing",
        "PYTHONPATH": str(Path.cwd()),
    }
    Path("refusing.py").write_text(
        "from dispatcher_core import SendFailed\n"
        "class Refusing:\n"
        "    def send(self, request, timeout):\n"
        "        raise SendFailed('nobody is there', retryable=False)\n"
    )
    folder = Path("refusing-1.0.dist-info")
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: refusing\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(
        "[dispatcher.senders]\nrefusing = refusing:Refusing\n"
    )
    command = [sys.executable, "-m", "dispatcher_core", "dispatch", "greet"]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "nobody is there" in one_error(done.stderr)


def test_dispatch_prints_json(run, fake_dispatcher):
    """``--json`` prints an object for programs, for a failure too."""
    assert json.loads(run("dispatch", "greet", "--id", "mine", "--json")[1]) == {
        "id": "mine",
        "state": "queued",
        "duplicate": False,
        "error": None,
    }
    fake_dispatcher.fail_next("queue-full")
    code, output, _ = run("dispatch", "greet", "--id", "mine", "--json")
    assert code == 1
    assert json.loads(output)["error"]["code"] == "queue-full"


def test_dispatch_waits_for_the_end(run, fake_dispatcher):
    """``--wait`` shows how the job ended, and the exit code says it."""
    fake_dispatcher.dispatch("greet", id="mine")
    fake_dispatcher.set_status("mine", state="succeeded", result={"n": 1})
    code, output, _ = run("dispatch", "greet", "--id", "mine", "--wait")
    assert code == 0
    assert output.splitlines()[0] == "mine"
    assert 'result    {"n": 1}' in output
    fake_dispatcher.set_status(
        "mine", state="failed", error=JobError("exception", "OSError", "no")
    )
    code, output, _ = run("dispatch", "greet", "--id", "mine", "--wait", "--json")
    assert code == 1
    told = json.loads(output)
    assert (told["id"], told["state"]) == ("mine", "failed")
    assert (told["duplicate"], told["error"]["type"]) == (True, "OSError")


def test_dispatch_waits_no_longer_than_asked(run, fake_dispatcher):
    """When the time is up, one line says how far the job is."""
    code, output, errors = run("dispatch", "greet", "--id", "mine", "--wait", "--timeout", "5")
    assert (code, output) == (1, "mine\n")
    assert "did not end within 5 s: still queued" in one_error(errors)


def test_what_is_known_by_then_is_one_object(run, fake_dispatcher, monkeypatch):
    """With ``--json`` the id and the last status are printed, however the waiting ends."""
    fake_dispatcher.dispatch("greet", id="mine")
    fake_dispatcher.set_status("mine", state="running")
    waiting = ("dispatch", "greet", "--id", "mine", "--wait", "--json")
    code, output, errors = run(*waiting, "--timeout", "5")
    told = json.loads(output)
    assert (code, told["id"], told["state"], told["error"]) == (1, "mine", "running", None)
    assert "did not end within 5 s" in one_error(errors)

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(Dispatcher, "wait", interrupted)
    code, output, _ = run(*waiting)
    assert (code, json.loads(output)["id"]) == (130, "mine")


# dispatcher status


def test_status_prints_what_is_known(run, fake_dispatcher):
    """The block has a line for each thing that is known, and none for what is not."""
    moment = datetime(2024, 5, 6, 7, 8, 9, 5000, tzinfo=UTC)
    fake_dispatcher.set_status(
        "mine",
        job="greet",
        state="running",
        attempt=2,
        progress=Progress(3, 20),
        created_at=moment,
        started_at=moment,
        error=JobError("exception", "ValueError", "two\nlines"),
        cancel_requested=True,
    )
    code, output, errors = run("status", "mine")
    assert (code, errors) == (0, "")
    assert output.splitlines() == [
        "id        mine",
        "job       greet",
        "queue     default",
        "state     running (asked to stop)",
        "attempt   2",
        "created   2024-05-06T07:08:09.005Z",
        "started   2024-05-06T07:08:09.005Z",
        "progress  3/20 (15 %)",
        "error     exception: ValueError: two lines",
    ]


def test_a_remote_error_does_not_steer_the_terminal(run, fake_dispatcher):
    """Control characters are replaced wherever what others wrote is shown."""
    error = JobError("exception", "ValueError", "\x1b[31mred\x00\nline")
    fake_dispatcher.dispatch("greet", id="mine")
    fake_dispatcher.set_status("mine", state="failed", error=error)
    for arguments in (("status", "mine"), ("dispatch", "greet", "--id", "mine", "--wait")):
        output = run(*arguments)[1]
        assert (
            "ValueError: \N{REPLACEMENT CHARACTER}[31mred\N{REPLACEMENT CHARACTER} line" in output
        )
        assert output.replace("\n", "").isprintable()


@pytest.mark.parametrize(("state", "shown"), [("succeeded", True), ("failed", False)])
def test_status_prints_a_result_where_there_is_one(run, fake_dispatcher, state, shown):
    """A result of None is a result; a job that failed has none."""
    fake_dispatcher.set_status("mine", state=state)
    assert ("result    null" in run("status", "mine")[1]) is shown


def test_status_prints_json(run, fake_dispatcher):
    """``--json`` prints the members of the wire format."""
    fake_dispatcher.set_status("mine", state="succeeded", result="ü")
    code, output, _ = run("status", "mine", "--json")
    told = json.loads(output)
    assert code == 0
    assert (told["id"], told["state"], told["result"]) == ("mine", "succeeded", "ü")
    assert told["finished_at"].endswith("Z")


@pytest.mark.parametrize("command", ["status", "cancel"])
def test_an_unknown_id_is_one_line(run, fake_dispatcher, command):
    """What the backend does not know is a failure; an ill-formed id is wrong usage."""
    code, output, errors = run(command, "other")
    assert (code, output) == (1, "")
    assert "knows no job and no batch by the id other" in one_error(errors)
    assert run(command, "a/b")[0] == 2


@pytest.mark.parametrize("command", ["status", "cancel"])
def test_a_refusal_is_one_line(run, fake_dispatcher, command):
    """What the backend refuses is told with what to do."""
    fake_dispatcher.fail_next("bad-signature")
    code, output, errors = run(command, "mine")
    assert (code, output) == (1, "")
    assert "same secret" in one_error(errors)


def steps(monkeypatch, fake, *changes):
    """Lets a job take a step with each look at it."""
    ask = type(fake).status
    waiting = list(changes)

    def look(self, id):
        status = ask(fake, id)
        if waiting:
            fake.set_status(id, **waiting.pop(0))
        return status

    wait = Dispatcher.wait

    def look_again(self, id, timeout=None):
        if waiting:
            fake.set_status(id, **waiting.pop(0))
        return wait(self, id, timeout)

    monkeypatch.setattr(Dispatcher, "status", look)
    monkeypatch.setattr(Dispatcher, "wait", look_again)


def test_status_follows_a_job(run, fake_dispatcher, monkeypatch):
    """``--watch`` prints each change until the end, and then the whole status."""
    fake_dispatcher.dispatch("greet", id="mine")
    steps(
        monkeypatch,
        fake_dispatcher,
        {},
        {"state": "running", "attempt": 1},
        {"progress": Progress(1, 2)},
        {},
        {"state": "succeeded"},
    )
    code, output, errors = run("status", "mine", "--watch")
    assert (code, errors) == (0, "")
    lines = output.splitlines()
    assert lines[:3] == [
        "queued, attempt 0",
        "running, attempt 1",
        "running, attempt 1, 1/2 (50 %)",
    ]
    assert lines[3] == "id        mine"
    assert "state     succeeded" in lines


def test_status_follows_a_job_in_json(run, fake_dispatcher, monkeypatch):
    """With ``--json`` each change is one line, the last one final."""
    fake_dispatcher.dispatch("greet", id="mine")
    steps(monkeypatch, fake_dispatcher, {"state": "running"}, {"state": "failed"})
    output = run("status", "mine", "--watch", "--json")[1]
    assert [json.loads(line)["state"] for line in output.splitlines()] == ["queued", "failed"]


def test_status_does_not_follow_what_has_ended(run, fake_dispatcher):
    """A job that has ended is shown once."""
    fake_dispatcher.set_status("mine", state="cancelled")
    assert run("status", "mine", "--watch")[1] == run("status", "mine")[1]


def test_a_job_of_a_batch_tells_its_batch(run, fake_dispatcher):
    """The id of the batch is a line of the block."""
    fake_dispatcher.set_status("mine", batch_id="all")
    assert "batch    all" in run("status", "mine")[1].splitlines()


def test_status_shows_a_batch(run, fake_dispatcher):
    """An id that is no job's is looked for among the batches; each count has its line."""
    moment = datetime(2024, 5, 6, 7, 8, 9, 5000, tzinfo=UTC)
    fake_dispatcher.set_batch_status(
        "all",
        state="failed",
        total=20,
        succeeded=3,
        failed=7,
        cancelled=10,
        failed_ids=tuple(f"job_{number}" for number in range(7)),
        then_id="then_1",
        finally_id="last_1",
        created_at=moment,
        finished_at=moment,
    )
    code, output, errors = run("status", "all")
    assert (code, errors) == (0, "")
    assert output.splitlines() == [
        "batch       all",
        "state       failed",
        "progress    20/20 (100 %)",
        "succeeded   3",
        "failed      7",
        "cancelled   10",
        "created     2024-05-06T07:08:09.005Z",
        "finished    2024-05-06T07:08:09.005Z",
        "then        then_1",
        "finally     last_1",
        "failed ids  job_0 job_1 job_2 job_3 job_4 and 2 more",
    ]


@pytest.mark.parametrize(("failed", "shown"), [(0, None), (2, "job_0 job_1")])
def test_status_shows_the_ids_of_failed_jobs(run, fake_dispatcher, failed, shown):
    """A few ids are all shown, and without any there is no line."""
    ids = tuple(f"job_{number}" for number in range(failed))
    fake_dispatcher.set_batch_status("all", total=3, pending=1, failed=failed, failed_ids=ids)
    lines = run("status", "all")[1].splitlines()
    assert [line[12:] for line in lines if line.startswith("failed ids")] == [shown] * bool(shown)


def test_status_prints_a_batch_as_json(run, fake_dispatcher):
    """``--json`` prints the members of the wire format."""
    fake_dispatcher.set_batch_status("all", total=4, pending=1, succeeded=3)
    code, output, _ = run("status", "all", "--json")
    told = json.loads(output)
    assert code == 0
    assert (told["id"], told["state"], told["succeeded"]) == ("all", "running", 3)
    assert told["progress"] == {"done": 3, "total": 4}


def batch_steps(monkeypatch, fake, *changes):
    """Lets the batch ``all`` take a step with each wait for it."""
    waiting = list(changes)
    wait = Dispatcher.wait_batch

    def look_again(self, id, timeout=None):
        if waiting:
            fake.set_batch_status(id, **waiting.pop(0))
        return wait(self, id, timeout)

    monkeypatch.setattr(Dispatcher, "wait_batch", look_again)


def test_status_follows_a_batch(run, fake_dispatcher, monkeypatch):
    """Where the output is no terminal, ``--watch`` prints a plain line for each step."""
    fake_dispatcher.set_batch_status("all", total=4, pending=4)
    changes = (
        {"pending": 3, "succeeded": 1},
        {},
        {"pending": 1, "failed": 1, "cancelled": 1},
        {"state": "failed"},
    )
    batch_steps(monkeypatch, fake_dispatcher, *changes)
    code, output, errors = run("status", "all", "--watch")
    assert (code, errors) == (0, "")
    lines = output.splitlines()
    assert lines[:4] == [
        "running, 0/4 (0 %)",
        "running, 1/4 (25 %)",
        "running, 3/4 (75 %), 1 failed, 1 cancelled",
        "batch      all",
    ]
    assert "\r" not in output


def test_status_follows_a_batch_in_json(run, fake_dispatcher, monkeypatch):
    """With ``--json`` each step is one line, the last one final, on a terminal too."""
    fake_dispatcher.set_batch_status("all", total=2, pending=2)
    batch_steps(monkeypatch, fake_dispatcher, {"pending": 1}, {"state": "succeeded"})
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    output = run("status", "all", "--watch", "--json")[1]
    told = [json.loads(line) for line in output.splitlines()]
    assert [(each["state"], each["pending"]) for each in told] == [
        ("running", 2),
        ("running", 1),
        ("succeeded", 0),
    ]


def test_status_draws_a_bar_on_a_terminal(run, fake_dispatcher, monkeypatch):
    """On a terminal the batch is one line that is drawn anew, and stays when it is full."""
    fake_dispatcher.set_batch_status("all", total=4, pending=4)
    batch_steps(monkeypatch, fake_dispatcher, {"pending": 2, "failed": 2}, {"state": "succeeded"})
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "100")
    code, output, errors = run("status", "all", "--watch")
    assert (code, errors) == (0, "")
    drawn, rest = output.split("\n", 1)
    assert [line.rstrip() for line in drawn.split("\r")[1:]] == [
        "[" + "." * 40 + "]    0 %  0/4",
        "[" + "#" * 20 + "." * 20 + "]   50 %  2/4, 2 failed",
        "[" + "#" * 40 + "]  100 %  4/4, 2 failed",
    ]
    assert rest.startswith("batch")


def test_an_interrupted_bar_leaves_its_line(run, fake_dispatcher, monkeypatch):
    """After Ctrl-C the prompt stands on a line of its own."""

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    fake_dispatcher.set_batch_status("all", total=4, pending=4)
    monkeypatch.setattr(Dispatcher, "wait_batch", interrupted)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    code, output, _ = run("status", "all", "--watch")
    assert code == 130
    assert output.endswith("0/4\n")


def test_status_does_not_follow_a_batch_that_has_ended(run, fake_dispatcher):
    """A batch that has ended is shown once."""
    fake_dispatcher.set_batch_status("all", state="cancelled")
    assert run("status", "all", "--watch")[1] == run("status", "all")[1]


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (80, "[" + "#" * 20 + "." * 20 + "]   50 %  2/4"),
        (30, "[" + "#" * 8 + "." * 8 + "]   50 %  2/4"),
        (24, "[" + "#" * 5 + "." * 5 + "]   50 %  2/4"),
        (23, " 50 %  2/4"),
        (6, " 50 % "),
    ],
)
def test_a_bar_fits_its_terminal(columns, line):
    """A bar is as wide as there is room for; where there is little, only the text remains."""
    assert bar(Progress(2, 4), "2/4", columns) == line


# dispatcher cancel


def test_cancel_falls_back_to_the_batch(run, fake_dispatcher):
    """An id that is no job's is looked for among the batches; what runs is told."""
    result = fake_dispatcher.batch([Job("a"), Job("b")], id="all")
    fake_dispatcher.set_status(result.ids[0], state="running")
    assert run("cancel", "all") == (0, "all: running, asked to stop (1 job still runs)\n", "")
    fake_dispatcher.set_status(result.ids[0], state="succeeded")
    assert run("cancel", "all") == (0, "all: cancelled\n", "")


def test_cancel_tells_of_a_batch_that_has_ended(run, fake_dispatcher):
    """A finished batch stays as it is."""
    fake_dispatcher.set_batch_status("all", state="succeeded")
    assert run("cancel", "all") == (0, "all: succeeded already\n", "")


def test_cancel_prints_a_batch_as_json(run, fake_dispatcher):
    """``--json`` prints the batch's status afterwards."""
    fake_dispatcher.batch([Job("a")], id="all")
    told = json.loads(run("cancel", "all", "--json")[1])
    assert (told["state"], told["cancelled"]) == ("cancelled", 1)


@pytest.mark.parametrize(
    ("state", "outcome"),
    [
        ("queued", "cancelled"),
        ("scheduled", "cancelled"),
        ("running", "running, asked to stop"),
        ("succeeded", "succeeded already"),
        ("failed", "failed already"),
    ],
)
def test_cancel_says_what_came_of_it(run, fake_dispatcher, state, outcome):
    """What waits is cancelled, what runs is asked to stop, what has ended stays."""
    fake_dispatcher.set_status("mine", state=state)
    assert run("cancel", "mine") == (0, f"mine: {outcome}\n", "")


def test_cancel_prints_json(run, fake_dispatcher):
    """``--json`` prints the status afterwards."""
    fake_dispatcher.set_status("mine", state="running")
    told = json.loads(run("cancel", "mine", "--json")[1])
    assert (told["state"], told["cancel_requested"]) == ("running", True)


# dispatcher ping


@pytest.fixture
def pong(monkeypatch, fake_dispatcher):
    """Sets what a ping is answered with."""

    def set_pong(**fields):
        answer = {"reachable": True, "secret_accepted": True, "versions": (1,), **fields}
        monkeypatch.setattr(Dispatcher, "ping", lambda self: Pong(**answer))

    return set_pong


def test_ping_prints_what_it_found(run, pong):
    """A healthy backend is told in five lines, with exit code 0."""
    pong(clock_skew=-0.123, workers=2)
    code, output, errors = run("ping")
    assert (code, errors) == (0, "")
    assert output.splitlines() == [
        "reachable        yes",
        "secret accepted  yes",
        "clock skew       -0.1 s",
        "workers alive    2",
        "wire versions    1",
    ]


def test_ping_warns_without_workers(run, pong):
    """A backend without workers is a warning, since jobs would wait."""
    pong(workers=0)
    code, _, errors = run("ping")
    assert code == 0
    assert "no worker is alive" in one_error(errors)


def test_ping_warns_of_a_clock_that_is_off(run, pong):
    """A clock that is far off is a warning before anything fails."""
    pong(workers=1, clock_skew=100.0)
    assert "differ by +100 s" in one_error(run("ping")[2])


def test_ping_through_the_whole_path(run, fake_dispatcher):
    """A ping that the fake backend answers is fine, workers unknown."""
    code, output, errors = run("ping")
    assert (code, errors) == (0, "")
    assert "workers alive    unknown" in output


def test_ping_prints_json(run, pong):
    """``--json`` prints the members of a ``Pong``."""
    pong(workers=3, clock_skew=0.5)
    assert json.loads(run("ping", "--json")[1]) == {
        "reachable": True,
        "secret_accepted": True,
        "clock_skew": 0.5,
        "workers": 3,
        "versions": [1],
        "error": None,
    }


@pytest.mark.parametrize(
    ("code", "reachable", "advice"),
    [
        ("unreachable", False, "a test made this call fail"),
        ("tls-failed", False, "a test made this call fail"),
        ("bad-signature", True, "same secret"),
        ("timestamp-out-of-range", True, "clocks"),
        ("not-found", True, "URL"),
        ("unavailable", True, "later"),
    ],
)
def test_a_ping_that_fails_says_why(run, fake_dispatcher, code, reachable, advice):
    """What is wrong is one line, with exit code 1; what is known is printed all the same."""
    fake_dispatcher.fail_next(code)
    exit_code, output, errors = run("ping", "--json")
    told = json.loads(output)
    assert exit_code == 1
    assert advice in one_error(errors)
    assert (told["reachable"], told["secret_accepted"]) == (reachable, False)
    assert advice in told["error"]
