import json
import os
import pickle
import subprocess
import sys
from dataclasses import fields, replace

import pytest

from dispatcher_core.config import Alias, Backend, Config, load_config
from dispatcher_core.errors import ConfigError, MissingSetting
from dispatcher_core.settings import SETTINGS

SECRET = "kR7vZp2QmX9tLw4NcB6yHs8D"
OTHER = "w5TgYb3NqJ8rKd6MzV1xFc7P"
URL = "https://app-b.example/jobs"


def load(folder, environ=None, **overrides):
    return load_config(overrides, environ or {}, folder)


def write(folder, name, text):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_every_setting_of_the_table_is_a_field():
    """Config has one argument for each setting, and one for the named backends."""
    names = {item.name for item in fields(Config) if item.init}
    assert {*SETTINGS, "backends"} == names


def test_nothing_needs_to_be_set(tmp_path, monkeypatch):
    """Without any source the defaults hold, and no file is needed."""
    monkeypatch.chdir(tmp_path)
    assert load(tmp_path) == Config()
    config = Config()
    assert (
        config.url,
        config.secret,
        config.previous_secrets,
        config.is_backend,
        config.modules,
        config.aliases,
    ) == (None, None, (), False, (), {})
    assert (
        config.sender,
        config.timeout,
        config.deadline,
        config.allow_http,
        config.retention,
    ) == ("urllib", 5.0, 15.0, False, 604800.0)
    assert (config.lifespan, config.around_job, config.backends) == (None, None, {})
    assert config.max_queued is None
    assert f"sqlite:///{tmp_path}/dispatcher.sqlite3" == config.queue_url


def test_each_source_goes_before_the_next(tmp_path):
    """Arguments, environment, .env, TOML, defaults: in this order, setting by setting."""
    write(tmp_path, "dispatcher.toml", "timeout = 1\ndeadline = 1\nretention = 7201\nsender = 't'")
    write(tmp_path, ".env", "DISPATCHER_TIMEOUT=2\nDISPATCHER_DEADLINE=2\nDISPATCHER_SENDER=e\n")
    environ = {"DISPATCHER_TIMEOUT": "3", "DISPATCHER_DEADLINE": "3"}
    config = load(tmp_path, environ, timeout=4)
    assert (
        config.timeout,
        config.deadline,
        config.sender,
        config.retention,
    ) == (4.0, 3.0, "e", 7201.0)
    sources = config.sources()
    assert sources["timeout"] == "argument"
    assert sources["deadline"] == "environment DISPATCHER_DEADLINE"
    assert sources["sender"] == ".env line 3"
    assert sources["retention"] == "dispatcher.toml"
    assert sources["url"] == "default"


def test_load_reads_environment_and_working_directory(tmp_path, monkeypatch):
    """Config.load takes the process's own environment and folder; None means not given."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISPATCHER_TIMEOUT", "3")
    write(tmp_path, ".env", "DISPATCHER_DEADLINE=7\n")
    config = Config.load(timeout=None, sender="requests")
    assert (config.timeout, config.deadline, config.sender) == (3.0, 7.0, "requests")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5", 5.0), ("5.", 5.0), ("0.5", 0.5), (" .5 ", 0.5), ("1e3", 1000.0), ("25E-1", 2.5)],
)
def test_seconds_are_written_as_numbers_are(tmp_path, text, seconds):
    """As text, the usual notations of a decimal number are taken."""
    assert load(tmp_path, {"DISPATCHER_TIMEOUT": text}).timeout == seconds


def test_arguments_alone_ignore_all_other_sources(tmp_path, monkeypatch):
    """Config(...) looks neither at the environment nor at files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISPATCHER_TIMEOUT", "3")
    write(tmp_path, ".env", "DISPATCHER_DEADLINE=7\n")
    config = Config(url=URL)
    assert (config.timeout, config.deadline) == (5.0, 15.0)
    assert (config.sources()["url"], config.sources()["timeout"]) == ("argument", "default")


def test_an_env_file_is_never_put_into_the_environment(tmp_path, monkeypatch):
    """Loading leaves os.environ as it was."""
    monkeypatch.delenv("DISPATCHER_TIMEOUT", raising=False)
    write(tmp_path, ".env", "DISPATCHER_TIMEOUT=2\n")
    environ = {}
    assert load(tmp_path, environ).timeout == 2.0
    assert environ == {}


def test_every_variable_is_read(tmp_path):
    """Each setting can be given as text, in the environment or .env."""
    values = {
        "DISPATCHER_BACKEND_URL": f"{URL}//",
        "DISPATCHER_BACKEND_SECRET": SECRET,
        "DISPATCHER_BACKEND_PREVIOUS_SECRETS": f"{OTHER}, {SECRET},",
        "DISPATCHER_IS_BACKEND": "True",
        "DISPATCHER_MODULES": "myapp.jobs, other",
        "DISPATCHER_ALIASES": "sync=lib.sync, report=lib:Report.run",
        "DISPATCHER_QUEUE_URL": "celery+amqp://broker/x",
        "DISPATCHER_MAX_QUEUED": " 5000 ",
        "DISPATCHER_SENDER": "requests",
        "DISPATCHER_TIMEOUT": "0.5",
        "DISPATCHER_DEADLINE": "60",
        "DISPATCHER_ALLOW_HTTP": "on",
        "DISPATCHER_RETENTION": "3600",
        "DISPATCHER_LIFESPAN": "myapp.jobs:lifespan",
        "DISPATCHER_AROUND_JOB": "myapp.jobs:around",
    }
    expected = {
        "url": URL,
        "secret": SECRET,
        "previous_secrets": (OTHER, SECRET),
        "is_backend": True,
        "modules": ("myapp.jobs", "other"),
        "aliases": {"sync": Alias("lib.sync"), "report": Alias("lib:Report.run")},
        "queue_url": "celery+amqp://broker/x",
        "max_queued": 5000,
        "sender": "requests",
        "timeout": 0.5,
        "deadline": 60.0,
        "allow_http": True,
        "retention": 3600.0,
        "lifespan": "myapp.jobs:lifespan",
        "around_job": "myapp.jobs:around",
    }
    lines = "".join(f"{key}='{value}'\n" for key, value in values.items())
    from_environment = load(tmp_path, values)
    write(tmp_path, ".env", lines)
    assert Config(**expected) == from_environment == load(tmp_path)


def test_toml_takes_tables_and_lists(tmp_path):
    """In TOML, aliases and backends are tables, and an alias may have options."""
    write(
        tmp_path,
        "dispatcher.toml",
        f"""
        modules = ["a.b"]
        previous_secrets = ["{OTHER}"]
        [aliases]
        sync = "lib.sync"
        report = {{call = "lib.report", tries = 3, timeout = 60, backoff = [1, 2.5]}}
        once = {{call = "lib.once", backoff = 9}}
        [backends.billing-service]
        url = "{URL}/"
        """,
    )
    config = load(tmp_path)
    assert config.modules == ("a.b",)
    assert config.previous_secrets == (OTHER,)
    assert {
        "sync": Alias("lib.sync", None, None, None),
        "report": Alias("lib.report", 3, 60.0, (1, 2.5)),
        "once": Alias("lib.once", backoff=9),
    } == config.aliases
    assert {"billing_service": Backend(URL)} == config.backends


def test_pyproject_is_read_where_there_is_no_file_of_our_own(tmp_path):
    """[tool.dispatcher] counts, until a dispatcher.toml takes its place."""
    write(tmp_path, "pyproject.toml", "[tool.dispatcher]\ntimeout = 8\n[tool.other]\nx = 1\n")
    assert load(tmp_path).timeout == 8.0
    assert load(tmp_path).sources()["timeout"] == "pyproject.toml"
    write(tmp_path, "dispatcher.toml", "deadline = 9\n")
    assert (load(tmp_path).timeout, load(tmp_path).deadline) == (5.0, 9.0)


@pytest.mark.parametrize("place", ["environment", ".env"])
def test_another_file_can_be_named(tmp_path, place):
    """DISPATCHER_CONFIG names the TOML file, and its relative paths start at its folder."""
    write(tmp_path, "dispatcher.toml", "timeout = 1\n")
    write(tmp_path, "conf/my.toml", "timeout = 2\nqueue_url = 'sqlite:///data/q.db'\n")
    if place == ".env":
        write(tmp_path, ".env", "DISPATCHER_CONFIG=conf/my.toml\n")
    config = load(tmp_path, {"DISPATCHER_CONFIG": "conf/my.toml"} if place != ".env" else {})
    assert config.timeout == 2.0
    assert f"sqlite:///{tmp_path}/conf/data/q.db" == config.queue_url
    assert config.sources()["timeout"] == "conf/my.toml"


def test_a_relative_queue_starts_at_the_working_directory_otherwise(tmp_path, monkeypatch):
    """Environment, .env, arguments and the default have no file of their own."""
    url = "sqlite:///data/q.db"
    expected = f"sqlite:///{tmp_path}/data/q.db"
    assert expected == load(tmp_path, {"DISPATCHER_QUEUE_URL": url}).queue_url
    assert expected == load(tmp_path, queue_url=url).queue_url
    assert f"sqlite:///{tmp_path}/dispatcher.sqlite3" == load(tmp_path).queue_url
    write(tmp_path, ".env", f"DISPATCHER_QUEUE_URL={url}\n")
    assert expected == load(tmp_path).queue_url
    monkeypatch.chdir(tmp_path)
    assert expected == Config(queue_url=url).queue_url
    assert Config(queue_url="sqlite:////var/q.db").queue_url == "sqlite:////var/q.db"


@pytest.mark.parametrize(
    "name", [b"caf\xe9", b"c#", b"what?", b"new\nline", "\U000e0001".encode()]
)
def test_a_queue_may_be_in_a_folder_of_any_name(tmp_path, monkeypatch, name):
    """The name need not be UTF-8, nor printable; the settings go on being accepted as they are."""
    folder = tmp_path / os.fsdecode(name)
    folder.mkdir()
    monkeypatch.chdir(folder)
    config = Config.load()
    assert config == Config() == replace(config)
    assert f"sqlite:///{folder}/dispatcher.sqlite3" == config.queue_url
    json.dumps(config.redacted()).encode()
    write(folder, "dispatcher.toml", "queue_url = 'sqlite:///q.db'")
    assert f"sqlite:///{folder}/q.db" == Config.load().queue_url


@pytest.mark.parametrize(("ending", "dropped"), [("\n", True), ("\r\n", True), ("\n\n", False)])
def test_a_secret_file_drops_one_newline(tmp_path, ending, dropped):
    """Exactly one trailing newline is not part of the secret."""
    path = write(tmp_path, "secret", SECRET + ending)
    environ = {"DISPATCHER_BACKEND_SECRET_FILE": str(path)}
    if dropped:
        config = load(tmp_path, environ)
        assert config.secret == SECRET
        assert config.sources()["secret"] == "environment DISPATCHER_BACKEND_SECRET_FILE"
    else:
        with pytest.raises(ConfigError, match="DISPATCHER_BACKEND_SECRET_FILE"):
            load(tmp_path, environ)


def test_all_secrets_may_come_from_files(tmp_path):
    """The previous ones and those of named backends have the _FILE variant too."""
    write(tmp_path, "one", f"{SECRET},{OTHER}\n")
    write(tmp_path, "two", OTHER)
    environ = {
        "DISPATCHER_BACKEND_PREVIOUS_SECRETS_FILE": "one",
        "DISPATCHER_BACKEND_BILLING_SECRET_FILE": str(tmp_path / "two"),
    }
    config = load(tmp_path, environ)
    assert config.previous_secrets == (SECRET, OTHER)
    assert {"billing": Backend(None, OTHER)} == config.backends


def test_both_forms_of_a_secret_are_an_error(tmp_path):
    """In one source, a secret and a secret file cannot both be meant."""
    write(tmp_path, "secret", SECRET)
    both = {"DISPATCHER_BACKEND_SECRET": OTHER, "DISPATCHER_BACKEND_SECRET_FILE": "secret"}
    with pytest.raises(ConfigError, match="DISPATCHER_BACKEND_SECRET_FILE are both set"):
        load(tmp_path, both)
    assert load(tmp_path, both | {"DISPATCHER_BACKEND_SECRET": ""}).secret == SECRET
    write(tmp_path, ".env", "".join(f"{key}={value}\n" for key, value in both.items()))
    with pytest.raises(ConfigError, match=r"\.env line 1 and \.env line 2 are both set") as caught:
        load(tmp_path)
    assert str(caught.value).startswith("secret (DISPATCHER_BACKEND_SECRET): ")


def test_a_secret_in_the_environment_goes_before_a_file_in_the_env_file(tmp_path):
    """Across sources there is no conflict: the earlier one counts."""
    write(tmp_path, ".env", "DISPATCHER_BACKEND_SECRET_FILE=secret\n")
    write(tmp_path, "secret", OTHER)
    assert load(tmp_path, {"DISPATCHER_BACKEND_SECRET": SECRET}).secret == SECRET


@pytest.mark.parametrize("place", ["environment", ".env"])
def test_a_secret_file_that_does_not_count_is_not_read(tmp_path, place):
    """An argument goes before it, so nobody misses it; what counts is read still."""
    unread = {
        "DISPATCHER_BACKEND_SECRET_FILE": "missing",
        "DISPATCHER_BACKEND_B_SECRET_FILE": "missing",
    }
    given = {"secret": SECRET, "backends": {"b": {"secret": OTHER}}}
    if place == ".env":
        write(tmp_path, ".env", "".join(f"{key}={value}\n" for key, value in unread.items()))
    config = load(tmp_path, unread if place == "environment" else {}, **given)
    assert (config.secret, config.backends["b"].secret) == (SECRET, OTHER)
    assert config.sources()["secret"] == "argument"
    with pytest.raises(ConfigError, match="DISPATCHER_BACKEND_B_SECRET_FILE: cannot read"):
        load(tmp_path, unread, secret=SECRET)


@pytest.mark.parametrize("content", [None, b"\xff" * 30, b"x" * 70000])
def test_a_secret_file_that_is_none_is_named(tmp_path, content):
    """A missing, binary or huge file gives one error with variable and path."""
    if content is not None:
        (tmp_path / "secret").write_bytes(content)
    with pytest.raises(ConfigError, match=r"DISPATCHER_BACKEND_SECRET_FILE: .*secret"):
        load(tmp_path, {"DISPATCHER_BACKEND_SECRET_FILE": "secret"})


def test_an_empty_variable_asks_for_the_default(tmp_path):
    """It goes before later sources, and the message of a missing setting tells."""
    write(tmp_path, "dispatcher.toml", f"url = '{URL}'\ntimeout = 9\nmodules = ['a']\n")
    environ = dict.fromkeys(
        ("DISPATCHER_BACKEND_URL", "DISPATCHER_TIMEOUT", "DISPATCHER_MODULES"), ""
    )
    config = load(tmp_path, environ)
    assert (config.url, config.timeout, config.modules) == (None, 5.0, ())
    with pytest.raises(MissingSetting, match="environment DISPATCHER_BACKEND_URL, empty"):
        config.require("url")


@pytest.mark.parametrize(
    ("setting", "variable"), [(item.name, item.variable) for item in SETTINGS.values()]
)
def test_a_missing_setting_says_how_to_set_it(tmp_path, setting, variable):
    """Using it fails, with the variable, the key of the TOML file and the argument."""
    config = load(tmp_path)
    if getattr(config, setting):
        assert getattr(config, setting) == config.require(setting)
        return
    with pytest.raises(MissingSetting) as caught:
        config.require(setting)
    assert setting == caught.value.setting
    expected = (
        f"set {variable} in the environment or .env, or `{setting}` in dispatcher.toml,"
        f" or pass Config({setting}=...)"
    )
    assert expected in str(caught.value)


def test_a_setting_that_does_not_exist_cannot_be_required():
    """A misspelled name is an error of its own."""
    with pytest.raises(ConfigError, match="did you mean 'secret'"):
        Config().require("secert")


def test_a_named_backend_has_its_own_url_and_secret(tmp_path):
    """Its parts may come from different sources; the rest of the settings stays."""
    write(tmp_path, "dispatcher.toml", f"[backends.billing]\nurl = '{URL}'\nsecret = 'overridden'")
    environ = {
        "DISPATCHER_BACKEND_URL": "https://unnamed.example",
        "DISPATCHER_BACKEND_SECRET": SECRET,
        "DISPATCHER_BACKEND_PREVIOUS_SECRETS": SECRET,
        "DISPATCHER_BACKEND_BILLING_SECRET": OTHER,
        "DISPATCHER_TIMEOUT": "3",
    }
    config = load(tmp_path, environ)
    assert config.secret == SECRET
    named = config.for_backend("Billing")
    assert (
        named.url,
        named.secret,
        named.previous_secrets,
        named.timeout,
    ) == (URL, OTHER, (), 3.0)
    assert named.sources()["url"] == "dispatcher.toml"
    assert named.sources()["secret"] == "environment DISPATCHER_BACKEND_BILLING_SECRET"
    assert named.sources()["timeout"] == "environment DISPATCHER_TIMEOUT"


@pytest.mark.parametrize(
    ("environ", "variable"),
    [
        ({}, "DISPATCHER_BACKEND_BILLING_EU_URL"),
        ({"DISPATCHER_BACKEND_BILLING_EU_SECRET": OTHER}, "DISPATCHER_BACKEND_BILLING_EU_URL"),
        ({"DISPATCHER_BACKEND_BILLING_EU_URL": URL}, "DISPATCHER_BACKEND_BILLING_EU_SECRET"),
    ],
)
def test_the_unnamed_backend_never_steps_in(tmp_path, environ, variable):
    """What a named backend lacks is missing, and its own variable is named."""
    unnamed = {"DISPATCHER_BACKEND_URL": URL, "DISPATCHER_BACKEND_SECRET": SECRET}
    with pytest.raises(MissingSetting, match=f"set {variable} in"):
        load(tmp_path, unnamed | environ).for_backend("billing-eu")


@pytest.mark.parametrize("name", ["", "a b", "ä", "previous", None, "../x"])
def test_a_name_that_no_backend_can_have_is_refused(name):
    """It could not be written as a variable."""
    with pytest.raises(ConfigError, match="has the name"):
        Config().for_backend(name)
    with pytest.raises(ConfigError, match="has the name"):
        Config(backends={name: {"url": URL}})


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("https://a.example", "https://a.example"),
        ("HTTPS://A.example:8443/x/y//", "https://a.example:8443/x/y"),
        ("http://localhost:8000/", "http://localhost:8000"),
        ("http://127.0.0.1", "http://127.0.0.1"),
        ("http://127.255.1.9:80", "http://127.255.1.9:80"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("https://service_b/a%20b", "https://service_b/a%20b"),
    ],
)
def test_a_url_is_stripped_of_trailing_slashes(given, url):
    """https anywhere and http to this machine are accepted."""
    assert url == Config(url=given).url
    assert url == Config(backends={"b": Backend(given)}).backends["b"].url


@pytest.mark.parametrize(
    "url",
    [
        "http://app-b.example",
        "http://127.0.0.1.example",
        "http://localhost.example",
        "http://127.1",
        "http://0.0.0.0",
        "http://[::2]",
        "http://10.0.0.1:8000",
    ],
)
def test_plain_http_to_another_machine_needs_to_be_allowed(url):
    """The error names the setting that allows it, and with it the URL is accepted."""
    for arguments in ({"url": url}, {"backends": {"b": Backend(url)}}):
        with pytest.raises(ConfigError, match="DISPATCHER_ALLOW_HTTP=true"):
            Config(**arguments)
        Config(**arguments, allow_http=True)


@pytest.mark.parametrize(
    "url",
    [
        "app-b.example",
        "//app-b.example",
        "ftp://app-b.example",
        "file:///etc/passwd",
        "https://",
        "https:///path",
        "https:app-b.example",
        "https://user:hunter2@app-b.example",
        "https://hunter2@app-b.example",
        "https://app-b.example?",
        "https://app-b.example/x?hunter2=1",
        "https://app-b.example#",
        "https://app-b.example:port",
        "https://app-b.example:0",
        "https://app-b.example:70000",
        "https://[::1",
        "https://[zz]",
        "https://a b",
        "https://a\r\nHost: b",
        "https://a\t.example",
        " https://app-b.example",
        "https://a\\b",
        "https://bücher.example",
        7,
    ],
)
def test_a_url_that_is_none_is_refused(url):
    """Userinfo, query, fragment, control characters and other schemes are refused."""
    with pytest.raises(ConfigError, match=r"url \(DISPATCHER_BACKEND_URL\)") as caught:
        Config(url=url, allow_http=True)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("DISPATCHER_BACKEND_SECRET", "short"),
        ("DISPATCHER_BACKEND_PREVIOUS_SECRETS", f"{SECRET},short"),
        ("DISPATCHER_IS_BACKEND", "maybe"),
        ("DISPATCHER_MODULES", "my-app.jobs"),
        ("DISPATCHER_MODULES", "myapp..jobs"),
        ("DISPATCHER_ALIASES", "sync"),
        ("DISPATCHER_ALIASES", "sync=lib sync"),
        ("DISPATCHER_ALIASES", "a b=lib.sync"),
        ("DISPATCHER_ALIASES", "a=lib.sync,a=lib.other"),
        ("DISPATCHER_QUEUE_URL", "dispatcher.sqlite3"),
        ("DISPATCHER_QUEUE_URL", "sqlite://"),
        ("DISPATCHER_QUEUE_URL", "sqlite:///"),
        ("DISPATCHER_QUEUE_URL", "sqlite:///:memory:"),
        ("DISPATCHER_QUEUE_URL", "sqlite://host/x.db"),
        ("DISPATCHER_QUEUE_URL", "sqlite:///x.db?mode=ro"),
        ("DISPATCHER_QUEUE_URL", "sqlite:///x\n.db"),
        ("DISPATCHER_QUEUE_URL", "sqlite:////folder/x.db#a"),
        ("DISPATCHER_QUEUE_URL", "celery:\n"),
        ("DISPATCHER_MAX_QUEUED", "0"),
        ("DISPATCHER_MAX_QUEUED", "-1"),
        ("DISPATCHER_MAX_QUEUED", "10.0"),
        ("DISPATCHER_MAX_QUEUED", "1_000"),
        ("DISPATCHER_MAX_QUEUED", "many"),
        ("DISPATCHER_MAX_QUEUED", "1000000001"),
        ("DISPATCHER_SENDER", "url lib"),
        ("DISPATCHER_TIMEOUT", "5s"),
        ("DISPATCHER_TIMEOUT", "0"),
        ("DISPATCHER_TIMEOUT", "-1"),
        ("DISPATCHER_TIMEOUT", "nan"),
        ("DISPATCHER_TIMEOUT", "."),
        ("DISPATCHER_TIMEOUT", "e3"),
        ("DISPATCHER_TIMEOUT", "\u0663"),
        ("DISPATCHER_TIMEOUT", "1e9999"),
        ("DISPATCHER_MAX_QUEUED", "\u0663"),
        ("DISPATCHER_DEADLINE", "inf"),
        ("DISPATCHER_DEADLINE", "1_0"),
        ("DISPATCHER_ALLOW_HTTP", "2"),
        ("DISPATCHER_RETENTION", "3599"),
        ("DISPATCHER_RETENTION", "9" * 400),
        ("DISPATCHER_LIFESPAN", "myapp.jobs.lifespan"),
        ("DISPATCHER_AROUND_JOB", "myapp.jobs:"),
    ],
)
def test_a_wrong_value_names_its_setting_variable_and_source(tmp_path, variable, text):
    """One error says which setting, which variable, and in which line it stands."""
    setting = next(item.name for item in SETTINGS.values() if item.variable == variable)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, {variable: text})
    label = f"{setting} ({variable}, from environment {variable}): "
    assert str(caught.value).startswith(label)
    with pytest.raises(ConfigError) as caught:
        Config(**{setting: text})
    assert str(caught.value).startswith(f"{setting} ({variable}): ")
    if "'" not in text and "\n" not in text:
        write(tmp_path, ".env", f"# first\n{variable}='{text}'\n")
        with pytest.raises(ConfigError, match=r"\.env line 2"):
            load(tmp_path)


@pytest.mark.parametrize(
    "arguments",
    [
        {"timeout": None},
        {"timeout": True},
        {"timeout": float("nan")},
        {"retention": 10**400},
        {"max_queued": 0},
        {"max_queued": 10**400},
        {"max_queued": True},
        {"max_queued": 10.0},
        {"is_backend": 1},
        {"modules": 5},
        {"modules": [5]},
        {"secret": 5},
        {"previous_secrets": 5},
        {"aliases": ["x"]},
        {"aliases": None},
        {"aliases": {"x": 5}},
        {"aliases": {5: "lib.sync"}},
        {"aliases": {"x": {"tries": 2}}},
        {"aliases": {"x": {"call": "lib.sync", "tires": 2}}},
        {"aliases": {"x": Alias("lib.sync", tries=0)}},
        {"aliases": {"x": Alias("lib.sync", timeout=0)}},
        {"aliases": {"x": {"call": "lib.sync", "timeout": 10**400}}},
        {"aliases": {"x": Alias("lib.sync", backoff=())}},
        {"aliases": {"x": {"call": "lib.sync", "backoff": "fast"}}},
        {"lifespan": 5},
        {"queue_url": None},
        {"queue_url": "sqlite:///a\0b/x.db"},
        {"backends": 5},
        {"backends": {"b": 5}},
        {"backends": {"b": {"ulr": URL}}},
        {"backends": {"b": Backend("nowhere")}},
        {"backends": {"b": Backend(URL, "short")}},
        {"backends": {"a-b": Backend(URL), "A_B": Backend(URL)}},
    ],
)
def test_a_wrong_argument_is_one_error(arguments):
    """Whatever type a value has, it is a ConfigError that names the setting."""
    with pytest.raises(ConfigError, match=next(iter(arguments))):
        Config(**arguments)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "timeuot = 5",
            "dispatcher.toml has the unknown setting 'timeuot': did you mean 'timeout'",
        ),
        ("xyzzy = 5", "unknown setting 'xyzzy': there are url, secret"),
        ("[backends.b]\nsecert = 'x'", "'secert': did you mean 'secret'"),
        ("[aliases]\nx = {call = 'a.b', tires = 1}", "'tires' is unknown: did you mean 'tries'"),
        ("timeout = 5s", "not valid TOML"),
        (
            "[tool.dispatcher]\ntimeout = 5",
            "in a file named pyproject.toml alone: write what is in",
        ),
        ("a = " + "[" * 5000, "not valid TOML"),
        ("timeout = 2020-01-01", r"timeout \(DISPATCHER_TIMEOUT, from dispatcher.toml\)"),
    ],
)
def test_a_wrong_toml_file_says_what_to_correct(tmp_path, text, problem):
    """Unknown keys name the nearest one; what is no TOML says where."""
    write(tmp_path, "dispatcher.toml", text)
    with pytest.raises(ConfigError, match=problem):
        load(tmp_path)


def test_files_that_cannot_be_read_are_named(tmp_path):
    """A file that was asked for and is not there, or is no text, is an error."""
    with pytest.raises(ConfigError, match=r"cannot read .*missing\.toml"):
        load(tmp_path, {"DISPATCHER_CONFIG": "missing.toml"})
    (tmp_path / "dispatcher.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load(tmp_path)
    write(tmp_path, "dispatcher.toml", "")
    write(tmp_path, ".env", "DISPATCHER_TIMEOUT=1\nDISPATCHER_TIMEOUT=1\n")
    with pytest.raises(ConfigError, match="twice, in lines 1 and 2"):
        load(tmp_path)


def test_an_unknown_override_is_an_error(tmp_path):
    """A misspelled argument is not ignored."""
    with pytest.raises(ConfigError, match="did you mean 'timeout'"):
        load(tmp_path, timeuot=5)


def test_a_variable_too_near_to_another_is_an_error(tmp_path):
    """PREVIOUS_SECRET would otherwise quietly make a backend of the name previous."""
    with pytest.raises(ConfigError, match="DISPATCHER_BACKEND_PREVIOUS_SECRETS"):
        load(tmp_path, {"DISPATCHER_BACKEND_PREVIOUS_SECRET": SECRET})


def test_unknown_variables_are_left_alone(tmp_path):
    """Orchestrators set variables of their own that begin like ours."""
    environ = {"DISPATCHER_PORT": "tcp://10.0.0.1:80", "DISPATCHER_BACKEND_PORT_80_TCP": "x"}
    assert load(tmp_path) == load(tmp_path, environ)


def test_secrets_and_passwords_are_hidden():
    """Neither repr, nor the redacted values, nor an error contains them."""
    config = Config(
        secret=SECRET,
        previous_secrets=[OTHER],
        backends={"b": Backend(URL, OTHER)},
        queue_url="celery+amqp://user:hunter2@broker/x",
    )
    for text in (repr(config), str(config.redacted()), repr(config.backends)):
        for hidden in (SECRET, OTHER, "hunter2"):
            assert hidden not in text
    assert URL in repr(config)
    assert config.redacted()["queue_url"] == "celery+amqp://user:********@broker/x"
    with pytest.raises(ConfigError) as caught:
        Config(secret=f"{SECRET} ")
    assert SECRET not in str(caught.value)


def test_a_config_can_be_copied_and_sent_to_another_process(tmp_path):
    """It survives pickling, which worker processes need, and dataclasses.replace."""
    config = load(tmp_path, {"DISPATCHER_ALIASES": "a=lib.a"}, backends={"b": Backend(URL)})
    copy = pickle.loads(pickle.dumps(config))  # noqa: S301
    assert config == copy
    assert config.sources() == copy.sources()
    assert replace(config, timeout=9).timeout == 9.0
    assert replace(config, timeout=9).aliases == config.aliases


USE = """from collections.abc import Mapping
from typing import assert_type

from dispatcher_core import Config
from dispatcher_core.config import Alias, Backend

as_text: dict[str, str] = {"sync": "lib.sync"}
report = {"call": "lib.report", "tries": 3, "backoff": [1, 2.5]}
config = Config(
    url="https://b.example",
    secret=None,
    previous_secrets="a,b",
    is_backend="true",
    modules="a,b",
    aliases={"sync": "lib.sync", "report": report, "once": Alias("lib.once", backoff=[1, 2])},
    queue_url="sqlite:///q.db",
    max_queued="5",
    sender="requests",
    timeout="5",
    deadline=15,
    allow_http=False,
    retention="3600",
    lifespan="a:b",
    around_job=None,
    backends={"b": {"url": "https://c.example", "secret": "s"}, "c": Backend("https://d.example")},
)
Config(aliases=as_text)
Config(aliases={"sync": "lib.sync"})
Config(aliases={"sync": {"call": "lib.sync", "tries": 3}})
Config(aliases="sync=lib.sync")
assert_type(config.aliases, Mapping[str, Alias])
assert_type(config.backends, Mapping[str, Backend])
assert_type(config.is_backend, bool)
assert_type(config.max_queued, int | None)
assert_type(config.timeout, float)
Config(timeuot=5)  # type: ignore[call-arg]
Config(is_backend=5)  # type: ignore[arg-type]
"""


def test_a_type_checker_knows_what_may_be_given(tmp_path):
    """It takes every form of a setting, knows what each becomes, and refuses what is wrong."""
    program = write(tmp_path, "program.py", USE)
    mypy = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir=cache"]
    done = subprocess.run(
        [*mypy, program.name], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert (done.stdout, done.returncode) == ("Success: no issues found in 1 source file\n", 0)
