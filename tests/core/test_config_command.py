import argparse
import json
import re
import tomllib
from pathlib import Path

import pytest

from dispatcher_core.commands.config import command, template
from dispatcher_core.config import load_config
from dispatcher_core.errors import ConfigError, DispatcherError
from dispatcher_core.settings import SETTINGS

SECRET = "kR7vZp2QmX9tLw4NcB6yHs8D"


def run(*arguments):
    parser = argparse.ArgumentParser()
    command.configure(parser)
    return command.run(parser.parse_args(arguments))


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """Each test runs in a folder of its own, without settings in the environment."""
    monkeypatch.chdir(tmp_path)
    for setting in SETTINGS.values():
        monkeypatch.delenv(setting.variable, raising=False)
    monkeypatch.delenv("DISPATCHER_CONFIG", raising=False)


def uncommented(text):
    """The file with every settable line put in force."""
    lines = [line.removeprefix("# ") for line in text.splitlines()]
    return "\n".join(
        line for line in lines if " = " in line or line.startswith(("[aliases]", "[backends."))
    )


def test_the_published_file_changes_nothing(tmp_path):
    """Every line is a comment, and every variable is told."""
    assert tomllib.loads(template()) == {}
    for setting in SETTINGS.values():
        assert setting.variable in template()


def test_every_published_line_may_be_put_in_force(tmp_path):
    """Without the comment signs the file loads, and gives all settings but the secrets."""
    Path("dispatcher.toml").write_text(uncommented(template()))
    config = load_config({}, {}, tmp_path)
    set_there = {name for name, source in config.sources().items() if source != "default"}
    hidden = {setting.name for setting in SETTINGS.values() if setting.hidden}
    assert {*SETTINGS, "backends.billing.url"} - hidden == set_there


def test_the_published_defaults_are_the_defaults(tmp_path):
    """A value shown as the default is the one that holds without the file."""
    shown = tomllib.loads(uncommented(template()))
    defaults = load_config({}, {}, tmp_path)
    names = ("is_backend", "sender", "timeout", "deadline", "allow_http", "retention")
    assert {name: getattr(defaults, name) for name in names} == {
        name: shown[name] for name in names
    }
    assert f"sqlite:///{tmp_path}/" == defaults.queue_url.removesuffix(
        shown["queue_url"].removeprefix("sqlite:///")
    )


def test_publish_writes_the_file_once(capsys):
    """A second time it is refused and kept, unless forced."""
    path = Path("dispatcher.toml")
    assert run("publish") == 0
    assert template() == path.read_text()
    assert str(path.absolute()) in capsys.readouterr().out
    path.write_text("timeout = 1\n")
    path.chmod(0o600)
    with pytest.raises(DispatcherError, match="--force") as caught:
        run("publish")
    assert caught.value.code == "error"
    assert path.read_text() == "timeout = 1\n"
    assert run("publish", "--force") == 0
    assert template() == path.read_text()


def test_publish_is_refused_where_no_file_can_be_replaced():
    """Neither a folder of that name nor a link to nowhere is, nor is a setting wrong there."""
    path = Path("dispatcher.toml")
    path.symlink_to("nowhere")
    with pytest.raises(DispatcherError, match="cannot replace") as caught:
        run("publish", "--force")
    assert caught.value.code == "error"
    path.unlink()
    path.mkdir()
    with pytest.raises(DispatcherError, match="not a regular file") as caught:
        run("publish", "--force")
    assert caught.value.code == "error"


def test_publish_into_a_folder_that_is_gone_is_refused(tmp_path, monkeypatch):
    """What the system says becomes one error."""
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    with pytest.raises(DispatcherError, match=r"cannot write dispatcher\.toml"):
        run("publish")
    with pytest.raises(DispatcherError, match="working directory does not exist"):
        run("show")


def test_publish_warns_where_the_file_is_not_the_one_in_force(monkeypatch, capsys):
    """Another file named by the environment, and a project's table, are told."""
    monkeypatch.setenv("DISPATCHER_CONFIG", "other.toml")
    Path("pyproject.toml").write_text("[tool.dispatcher]\ntimeout = 1\n")
    assert run("publish") == 0
    errors = capsys.readouterr().err
    assert "DISPATCHER_CONFIG names other.toml" in errors
    assert "[tool.dispatcher] in pyproject.toml is not read" in errors


def test_show_prints_values_and_where_they_came_from(monkeypatch, capsys):
    """Each line has name, value and source; secrets are redacted."""
    monkeypatch.setenv("DISPATCHER_BACKEND_SECRET", SECRET)
    Path(".env").write_text("OTHER=1\nDISPATCHER_TIMEOUT=2.5\n")
    Path("dispatcher.toml").write_text("[backends.billing]\nurl = 'https://billing.example/'\n")
    assert run("show") == 0
    output = capsys.readouterr().out
    lines = {line.split()[0]: line.split(maxsplit=2)[1:] for line in output.splitlines()}
    assert lines["secret"] == ['"********"', "environment DISPATCHER_BACKEND_SECRET"]
    assert lines["timeout"] == ["2.5", ".env line 2"]
    assert lines["url"] == ["null", "default"]
    assert lines["backends.billing.url"] == ['"https://billing.example"', "dispatcher.toml"]
    assert {*SETTINGS, "backends.billing.url"} == set(lines)
    assert SECRET not in output


def test_show_prints_json(monkeypatch, capsys):
    """--json gives one object with a value and a source for each setting."""
    monkeypatch.setenv("DISPATCHER_BACKEND_PREVIOUS_SECRETS", SECRET)
    monkeypatch.setenv("DISPATCHER_ALIASES", "sync=lib.sync")
    assert run("show", "--json") == 0
    output = capsys.readouterr().out
    shown = json.loads(output)
    assert shown["previous_secrets"]["value"] == ["********"]
    assert shown["timeout"] == {"value": 5.0, "source": "default"}
    assert shown["aliases"]["value"]["sync"] == {
        "call": "lib.sync",
        "tries": None,
        "timeout": None,
        "backoff": None,
    }
    assert SECRET not in output


def test_the_limit_on_waiting_jobs_is_shown(capsys):
    """It is a whole number with its source, or null where there is none."""
    assert run("show") == 0
    assert re.search(r"(?m)^max_queued +null +default$", capsys.readouterr().out)
    Path("dispatcher.toml").write_text("max_queued = 250\n")
    assert run("show") == 0
    assert re.search(r"(?m)^max_queued +250 +dispatcher\.toml$", capsys.readouterr().out)
    Path("dispatcher.toml").write_text("max_queued = 0\n")
    with pytest.raises(ConfigError, match=r"max_queued .*dispatcher\.toml\): .* at least 1 "):
        run("show")


@pytest.mark.parametrize("arguments", [[], ["hide"], ["publish", "--json"], ["show", "extra"]])
def test_wrong_usage_exits_2(arguments):
    """argparse explains it."""
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert caught.value.code == 2
