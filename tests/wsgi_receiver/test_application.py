"""From the configuration to a receiver."""

import sys
import time

import pytest

import dispatcher_wsgi_receiver
from dispatcher_core import AliasRegistry, Config, ConfigError, MissingSetting, PluginNotFound
from dispatcher_core.errors import JobLoadError
from dispatcher_core.testing import MemoryQueue
from dispatcher_wsgi_receiver import create_app


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """Writes importable modules; those that were imported are forgotten after the test."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def write(**sources):
        for name, source in sources.items():
            (tmp_path / f"{name}.py").write_text(source)

    yield write
    for name in set(sys.modules) - before:
        if name.startswith("receiver_test_"):
            del sys.modules[name]


def test_a_program_that_is_no_backend_is_refused(secret):
    """Without is_backend nothing is received; the error says how to set it."""
    with pytest.raises(MissingSetting, match="DISPATCHER_IS_BACKEND"):
        create_app(Config(secret=secret))


def test_a_backend_without_a_secret_is_refused():
    """Without a secret nothing could be verified; the error says how to set it."""
    with pytest.raises(MissingSetting, match="DISPATCHER_BACKEND_SECRET"):
        create_app(Config(is_backend=True))


@pytest.mark.parametrize("weak", ["", "secret", "secret" * 5, "short", "whsec_!", "a b" * 10])
def test_a_weak_secret_is_refused(weak):
    """There is no start with an empty, short or guessable secret."""
    with pytest.raises(ConfigError):
        create_app(Config(is_backend=True, secret=weak))


def test_the_settings_come_from_the_environment(monkeypatch, tmp_path, secret, client_of):
    """Without a configuration the program's own is loaded, as a server does it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISPATCHER_IS_BACKEND", "1")
    monkeypatch.setenv("DISPATCHER_BACKEND_SECRET", secret)
    monkeypatch.setenv("DISPATCHER_QUEUE_URL", "memory://")
    monkeypatch.delenv("DISPATCHER_MODULES", raising=False)
    assert client_of(create_app()).call("GET", "/health").status == 200


def test_what_is_passed_in_is_used(secret, client_of):
    """A queue and a registry of the caller's own take the place of the configured ones."""
    queue, registry = MemoryQueue(), AliasRegistry({"add": lambda one, two: one + two})
    app = create_app(Config(is_backend=True, secret=secret), queue=queue, registry=registry)
    reply = client_of(app, now=int(time.time())).dispatch("add", payload={"one": 1, "two": 2})
    assert reply.status == 202
    assert [job.job for job in queue.jobs] == ["add"]


def test_previous_secrets_verify(secret, client_of):
    """What is signed with a secret that is being replaced is accepted."""
    new = "n3wN3wN3wN3wN3wN3wN3wN3wN3wN3w"
    config = Config(is_backend=True, secret=new, previous_secrets=[secret], queue_url="memory://")
    client = client_of(create_app(config), now=int(time.time()))
    assert client.ask("GET", "/ping").status == 200


def test_hooks_are_imported_before_modules_in_order(secret, modules):
    """What the hooks' modules set up is there when the modules with the jobs are imported."""
    modules(
        receiver_test_order="seen = []\n",
        receiver_test_hooks=(
            "from receiver_test_order import seen\nseen.append('hooks')\n"
            "def lifespan(): raise AssertionError\n"
        ),
        receiver_test_around=(
            "from receiver_test_order import seen\nseen.append('around')\n"
            "def around_job(context): raise AssertionError\n"
        ),
        receiver_test_b="from receiver_test_order import seen\nseen.append('b')\n",
        receiver_test_a="from receiver_test_order import seen\nseen.append('a')\n",
        receiver_test_target=(
            "from receiver_test_order import seen\nseen.append('target')\ndef run(): pass\n"
        ),
    )
    create_app(
        Config(
            is_backend=True,
            secret=secret,
            queue_url="memory://",
            modules=["receiver_test_b", "receiver_test_a"],
            aliases={"run": "receiver_test_target.run"},
            lifespan="receiver_test_hooks:lifespan",
            around_job="receiver_test_around:around_job",
        )
    )
    seen = sys.modules["receiver_test_order"].seen
    assert seen == ["hooks", "around", "b", "a", "target"]


@pytest.mark.parametrize(
    "settings",
    [
        {"modules": ["receiver_test_missing"]},
        {"modules": ["receiver_test_broken"]},
        {"aliases": {"x": "receiver_test_missing.run"}},
        {"lifespan": "receiver_test_missing:lifespan"},
        {"around_job": "receiver_test_broken:around_job"},
    ],
)
def test_what_does_not_import_is_named(secret, modules, settings):
    """A module that does not import stops the start with one error that names it."""
    modules(receiver_test_broken="raise SystemExit('not today')\n")
    config = Config(is_backend=True, secret=secret, queue_url="memory://", **settings)
    with pytest.raises(JobLoadError, match="receiver_test_"):
        create_app(config)


def test_an_unknown_kind_of_queue_is_named(secret):
    """A scheme that no installed plugin offers is an error that lists those that are."""
    with pytest.raises(PluginNotFound, match=r"nosuch.*memory"):
        create_app(Config(is_backend=True, secret=secret, queue_url="nosuch://x"))


def test_nothing_is_opened_before_it_is_used(secret, tmp_path):
    """A receiver made before a server forks has opened no connection, nor made a file."""
    url = f"sqlite:///{tmp_path / 'queue.sqlite3'}"
    create_app(Config(is_backend=True, secret=secret, queue_url=url))
    assert list(tmp_path.iterdir()) == []


def test_the_version_is_that_of_the_distribution():
    """The package knows its version, and no other names."""
    assert dispatcher_wsgi_receiver.__version__.count(".") == 2
    with pytest.raises(AttributeError, match="nothing"):
        _ = dispatcher_wsgi_receiver.nothing
