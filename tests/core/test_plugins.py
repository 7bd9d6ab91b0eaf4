import sys

import pytest

from dispatcher_core import PluginNotFound
from dispatcher_core.command import Command
from dispatcher_core.plugins import COMMANDS, QUEUES, SENDERS, load_plugin, plugin_names
from dispatcher_core.testing import MemoryQueue


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs a package whose entry points are given."""

    def install(entry_points, source=""):
        (tmp_path / "some_plugin.py").write_text(source)
        folder = tmp_path / "some_plugin-1.0.dist-info"
        folder.mkdir()
        metadata = "Metadata-Version: 2.1\nName: some-plugin\nVersion: 1.0\n"
        (folder / "METADATA").write_text(metadata)
        (folder / "entry_points.txt").write_text(entry_points)
        monkeypatch.syspath_prepend(str(tmp_path))

    yield install
    sys.modules.pop("some_plugin", None)


def test_a_plugin_is_loaded_by_its_name():
    """The entry point of the name is loaded."""
    assert load_plugin(QUEUES, "memory") == MemoryQueue.from_url
    assert isinstance(load_plugin(COMMANDS, "ping"), Command)


def test_no_other_plugin_is_loaded(install):
    """A broken plugin beside the one that is wanted does no harm."""
    install("[dispatcher.queues]\nbroken = some_plugin:x\nbad = nowhere\n", "1 / 0")
    assert load_plugin(QUEUES, "memory") == MemoryQueue.from_url
    assert {"broken", "bad", "memory"} <= set(plugin_names(QUEUES))


def test_names_are_sorted():
    """Names are listed in order, each once."""
    names = plugin_names(COMMANDS)
    assert list(names) == sorted(set(names))
    assert {"secret", "config", "ping", "dispatch", "status", "cancel"} <= set(names)


@pytest.mark.parametrize("name", ["", "MEMORY", "carrier-pigeon", "memory ", "a\nb"])
def test_a_wrong_name_lists_what_is_installed(name):
    """Who misspells a plugin sees the right names."""
    with pytest.raises(PluginNotFound, match=r"misspelled or not installed\?.*memory") as caught:
        load_plugin(QUEUES, name)
    assert caught.value.name == name
    assert "memory" in caught.value.available


@pytest.mark.parametrize(
    ("group", "name", "package"),
    [
        (SENDERS, "urllib", "dispatcher-http-sender"),
        (SENDERS, "requests", r"dispatcher-http-sender\[requests\]"),
        (QUEUES, "sqlite", "dispatcher-local-queue"),
        (QUEUES, "celery", "dispatcher-celery-queue"),
        (COMMANDS, "work", "dispatcher-local-queue"),
        (COMMANDS, "serve", "dispatcher-wsgi-receiver"),
    ],
)
def test_a_known_name_says_what_to_install(monkeypatch, group, name, package):
    """Where a plugin of ours is not installed, its package is named."""
    monkeypatch.setattr("dispatcher_core.plugins.entry_points", lambda **selection: ())
    with pytest.raises(PluginNotFound, match=f"pip install '{package}'.*installed: none"):
        load_plugin(group, name)


@pytest.mark.parametrize(
    ("value", "source", "problem"),
    [
        ("no_such_module:x", "", "ModuleNotFoundError"),
        ("some_plugin:x", "", "AttributeError"),
        ("some_plugin:x", "1 / 0", "ZeroDivisionError"),
    ],
)
def test_a_plugin_that_does_not_load_says_why(install, value, source, problem):
    """A broken plugin is one error that names it and what happened."""
    install(f"[dispatcher.queues]\nbroken = {value}\n", source)
    with pytest.raises(PluginNotFound, match=f"'broken' .*does not load: {problem}") as caught:
        load_plugin(QUEUES, "broken")
    assert caught.value.__cause__ is not None
