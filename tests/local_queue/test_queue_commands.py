import json

import pytest

from dispatcher_core.cli import main
from dispatcher_core.status import JobError
from dispatcher_core.wire import encode_status
from dispatcher_local_queue.database import now_ms
from dispatcher_local_queue.endings import Ending

HOUR = 3_600_000


@pytest.fixture
def run(tmp_path, path, monkeypatch, capsys):
    """Runs ``dispatcher queue ...`` and gives its exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    for name in ("DISPATCHER_CONFIG", "DISPATCHER_RETENTION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DISPATCHER_QUEUE_URL", f"sqlite:///{path}")

    def run(*arguments):
        code = main(["queue", *arguments])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def done(run):
    """Runs a subcommand that succeeds, and gives its output."""

    def done(*arguments):
        code, output, errors = run(*arguments)
        assert (code, errors) == (0, "")
        return output

    return done


@pytest.fixture
def refused(run):
    """Runs a subcommand that fails, and gives its exit code and its one line."""

    def refused(*arguments):
        code, output, errors = run(*arguments)
        assert output == ""
        assert errors.startswith("dispatcher: ")
        assert errors.count("\n") == 1
        return code, errors

    return refused


@pytest.fixture
def failed(claimed, claims):
    """Puts a job that has run and failed, and tells its id."""

    def failed(message="no luck", **options):
        claim = claimed(**options)
        error = JobError("exception", "ValueError", message)
        claims.end_and_claim(claim, Ending.failed(error), [])
        return claim.id

    return failed


def test_stats_are_a_table(done, jobs, failed):
    """A line for each queue under its heads, then who is alive and how big the files are."""
    failed(queue="emails")
    jobs.put(queue="reports")
    done("pause", "reports")
    table, pairs = done("stats").split("\n\n")
    heads, emails, reports = (line.split() for line in table.splitlines())
    states = ["queued", "scheduled", "running", "succeeded", "failed", "cancelled"]
    assert heads == ["queue", *states, "oldest", "waiting"]
    assert emails == ["emails", *"000010", "-"]
    assert reports[:7] == ["reports", *"100000"]
    assert reports[8:] == ["s", "paused"]
    assert dict(line.split(maxsplit=1) for line in pairs.splitlines()).keys() == {
        *("supervisors", "workers", "file", "log"),
    }


def test_columns_are_aligned(done, jobs):
    """A long name moves what follows in every line."""
    jobs.put(queue="a" * 40)
    jobs.put(queue="b")
    heads, first, second = done("list").splitlines()
    assert heads.index("state") == first.index("queued") == second.index("queued")


def test_stats_as_json(done, jobs, path):
    """One object: counts of every state, sizes in bytes, times in seconds."""
    jobs.put(queue="emails")
    done("pause", "emails")
    stats = json.loads(done("stats", "--json"))
    (emails,) = stats["queues"]
    assert 0 <= emails.pop("oldest_waiting") < 60
    states = ("cancelled", "failed", "running", "scheduled", "succeeded")
    counts = {**dict.fromkeys(states, 0), "queued": 1}
    assert emails == {"queue": "emails", "paused": True, "counts": counts}
    assert stats["file_size"] == path.stat().st_size
    assert stats["log_size"] > 0
    assert (stats["workers"], stats["supervisors"]) == (0, 0)


def test_list_shows_what_is_asked_for(done, jobs, failed):
    """By state and queue, newest first, no more than the limit."""
    a, b = failed(queue="a"), failed(queue="b")
    c = jobs.put(queue="b")

    def listed(*arguments):
        return [line.split()[0] for line in done("list", *arguments).splitlines()[1:]]

    assert listed() == [c, b, a]
    assert listed("--limit", "1") == [c]
    assert listed("--state", "failed") == [b, a]
    assert listed("--queue", "b") == [c, b]
    assert listed("--queue", "b", "--state", "failed") == [b]
    assert done("list", "--queue", "nobody") == ""


def test_list_shows_errors_in_one_line(done, failed):
    """Short, and nothing in them reaches the terminal as a command."""
    failed("\x1b[31mred\nand " + "long " * 100)
    _, line = done("list").splitlines()
    assert "exception: ValueError: \N{REPLACEMENT CHARACTER}[31mred and long" in line
    assert line.endswith(" ...")
    assert len(line) < 200


def test_list_as_json(done, jobs, failed):
    """One object with the statuses, as the wire format has them."""
    ids = [failed(), failed()]
    expected = [encode_status(jobs.status(id)) for id in ids[::-1]]
    assert json.loads(done("list", "--json")) == {"jobs": expected}
    assert json.loads(done("list", "--json", "--state", "running")) == {"jobs": []}


def test_show_tells_all_but_the_payload(done, jobs, failed):
    """That is shown only when asked for."""
    id = failed(payload={"token": "hush"}, priority=5)
    jobs.change(id, kills=2)
    rows = dict(line.split(maxsplit=1) for line in done("show", id).splitlines())
    assert (rows["id"], rows["state"], rows["priority"], rows["kills"]) == (id, "failed", "5", "2")
    assert rows["error"] == "exception: ValueError: no luck"
    assert "hush" not in done("show", id) + done("show", id, "--json")
    assert '{"token": "hush"}' in done("show", id, "--payload")


def test_show_as_json(done, jobs):
    """One object: the status, and what its sender does not see."""
    id = jobs.put(payload={"a": 1}, priority=3)
    status = encode_status(jobs.status(id)) | {"priority": 3, "kills": 0}
    assert json.loads(done("show", id, "--json")) == status
    expected = status | {"payload": {"a": 1}}
    assert json.loads(done("show", id, "--payload", "--json")) == expected


def test_a_job_is_retried(done, jobs, failed):
    """It waits again; the output says so."""
    id, other = failed(), failed()
    assert done("retry", id) == f"{id}: queued again\n"
    assert json.loads(done("retry", other, "--json")) == {"id": other, "state": "queued"}
    assert jobs.status(id).state == jobs.status(other).state == "queued"


def test_all_jobs_are_retried(done, jobs, failed):
    """Of one queue, or of every one."""
    a, b = failed(queue="a"), failed(queue="b")
    assert done("retry", "--all", "--queue", "a") == "failed jobs queued again: 1\n"
    assert (jobs.status(a).state, jobs.status(b).state) == ("queued", "failed")
    assert json.loads(done("retry", "--all", "--json")) == {"retried": 1}
    assert jobs.status(b).state == "queued"


def test_a_job_is_forgotten(done, jobs):
    """Its record is gone; the output says so."""
    ids = jobs.put(), jobs.put()
    for id in ids:
        jobs.change(id, state="failed", finished_at=now_ms() - HOUR)
    assert done("forget", ids[0]) == f"{ids[0]}: forgotten\n"
    assert json.loads(done("forget", ids[1], "--json")) == {"id": ids[1], "forgotten": True}
    assert done("list") == ""


def test_a_queue_is_paused_and_resumed(done, jobs, claims):
    """The output says what is so now."""
    jobs.put(queue="emails")
    assert done("pause", "emails") == "queue emails is paused\n"
    assert claims.claim(["emails"]) is None
    assert done("pause", "emails") == "queue emails is paused already\n"
    assert json.loads(done("pause", "emails", "--json")) == {"queue": "emails", "paused": True}
    assert done("resume", "emails") == "queue emails goes on\n"
    assert done("resume", "emails") == "queue emails was not paused\n"
    assert json.loads(done("resume", "emails", "--json")) == {"queue": "emails", "paused": False}
    assert claims.claim(["emails"]) is not None


def test_old_jobs_are_pruned(done, jobs, monkeypatch):
    """After the time given, else after the setting's."""
    for hours in (1, 3, 5, 7):
        jobs.change(jobs.put(), state="succeeded", finished_at=now_ms() - hours * HOUR)
    monkeypatch.setenv("DISPATCHER_RETENTION", "21600")
    assert done("prune") == "finished jobs removed: 1\n"
    assert done("prune", "--older-than", "14400") == "finished jobs removed: 1\n"
    assert json.loads(done("prune", "--older-than", "7200", "--json")) == {"pruned": 1}
    assert len(done("list").splitlines()) == 2


@pytest.mark.parametrize("action", ["show", "retry", "forget"])
def test_an_unknown_job_is_refused(refused, jobs, action):
    """One line, exit 1."""
    jobs.put()
    assert refused(action, "nobody") == (1, "dispatcher: there is no job 'nobody'\n")


def test_what_cannot_be_done_is_refused(refused, jobs):
    """One line that says why, exit 1."""
    id = jobs.put()
    for action, reason in (("retry", "only a failed"), ("forget", "only a finished")):
        code, line = refused(action, id)
        assert code == 1
        assert reason in line
    code, line = refused("prune", "--older-than", "60")
    assert code == 1
    assert "3600 s" in line


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("drop",),
        ("list", "--state", "lost"),
        ("list", "--limit", "0"),
        ("list", "--limit", "99999999999999999999"),
        ("list", "--queue", "two words"),
        ("show",),
        ("show", "a", "b"),
        ("retry",),
        ("retry", "a", "--all"),
        ("retry", "a", "--queue", "emails"),
        ("forget",),
        ("pause",),
        ("pause", "two words"),
        ("resume", ""),
        ("prune", "--older-than", "soon"),
        ("prune", "--older-than", "nan"),
        ("prune", "--older-than", "1e300"),
        ("show", "\udcff"),
        ("retry", "a b"),
        ("forget", "\udcff"),
    ],
)
def test_wrong_usage_is_explained(refused, jobs, arguments):
    """One line, exit 2, and nothing is done."""
    jobs.put()
    assert refused(*arguments)[0] == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("stats",),
        ("list",),
        ("show", "a"),
        ("retry", "--all"),
        ("forget", "a"),
        ("pause", "emails"),
        ("resume", "emails"),
        ("prune",),
    ],
)
def test_no_command_makes_a_queue(refused, path, arguments):
    """Where there is none, that is said, and none is there afterwards."""
    code, line = refused(*arguments)
    assert code == 1
    assert f"there is no queue at {path}" in line
    assert list(path.parent.glob("queue.sqlite3*")) == []


@pytest.mark.parametrize(
    "action", ["stats", "list", "show", "retry", "forget", "pause", "resume", "prune"]
)
def test_every_subcommand_has_help(done, action):
    """With an example."""
    text = done(action, "--help")
    assert f"example: dispatcher queue {action}" in text
    assert "--json" in text


def test_a_file_of_another_program_is_refused(refused, foreign):
    """And not touched."""
    before = foreign.read_bytes()
    code, line = refused("stats")
    assert code == 1
    assert "another program" in line
    assert foreign.read_bytes() == before


def test_the_program_looks_at_a_running_queue(dispatcher, start_work, jobs):
    """Beside a worker, from another process: who is alive, and what became of a job."""
    start_work("--processes", "2")
    id = jobs.put(payload={"a": 1, "b": 2})
    jobs.ended(id)
    stats = json.loads(dispatcher("queue", "stats", "--json").stdout)
    assert (stats["supervisors"], stats["workers"]) == (1, 2)
    assert stats["queues"][0]["counts"]["succeeded"] == 1
    shown = dispatcher("queue", "show", id)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "result     3" in shown.stdout
