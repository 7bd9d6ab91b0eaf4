"""The receiver beside another application."""

import json

import pytest

from dispatcher_wsgi_receiver import mount


def echo(name):
    """An application that answers its name, SCRIPT_NAME and PATH_INFO."""

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "application/json")])
        where = environ.get("SCRIPT_NAME", ""), environ.get("PATH_INFO", "")
        return [json.dumps([name, *where]).encode()]

    return app


@pytest.fixture
def call(client_of):
    """What a mounted application answers for a prefix, a path and a SCRIPT_NAME."""

    def ask(prefix, path, script_name=""):
        client = client_of(mount(echo("app"), prefix, echo("receiver")))
        return client.call("GET", path, None, {"SCRIPT_NAME": script_name}).json

    return ask


@pytest.mark.parametrize(
    ("prefix", "path", "expected"),
    [
        ("/jobs", "/jobs/ping", ["receiver", "/jobs", "/ping"]),
        ("/jobs/", "/jobs/ping", ["receiver", "/jobs", "/ping"]),
        ("/jobs", "/jobs/jobs/x", ["receiver", "/jobs", "/jobs/x"]),
        ("/a/b", "/a/b/ping", ["receiver", "/a/b", "/ping"]),
        ("/jobs", "/jobs", ["receiver", "/jobs", ""]),
        ("/jobs", "/jobs/", ["receiver", "/jobs", "/"]),
        ("/jobs", "/jobsfoo", ["app", "", "/jobsfoo"]),
        ("/jobs", "/x/jobs/ping", ["app", "", "/x/jobs/ping"]),
        ("/jobs", "/", ["app", "", "/"]),
        ("/a/b", "/a", ["app", "", "/a"]),
        ("/é", "/\u00c3\u00a9/ping", ["receiver", "/\u00c3\u00a9", "/ping"]),
    ],
)
def test_the_prefix_decides(call, prefix, path, expected):
    """The prefix itself and what is below it go to the receiver, the rest to the application."""
    assert call(prefix, path) == expected


def test_mounts_nest(call):
    """A prefix is added to the SCRIPT_NAME that is there already."""
    assert call("/jobs", "/jobs/ping", "/site") == ["receiver", "/site/jobs", "/ping"]


def test_the_environment_of_the_application_is_left_alone():
    """What the caller passed in is as it was, whoever answers."""
    environ = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/jobs/ping"}
    mount(echo("app"), "/jobs", echo("receiver"))(environ, lambda status, headers: None)
    assert environ == {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/jobs/ping"}


@pytest.mark.parametrize("prefix", ["", "/", "//", "jobs"])
def test_a_prefix_that_is_no_path_is_refused(prefix):
    """A prefix is a path; one that would cover everything is a mistake."""
    with pytest.raises(ValueError, match="must be a path"):
        mount(echo("app"), prefix, echo("receiver"))


def test_signatures_do_not_depend_on_the_mount(client, client_of):
    """A request signs the path relative to the mount."""
    mounted = client_of(mount(echo("app"), "/deep/in", client.app))
    headers = mounted.headers("req-1", b"GET /ping")
    assert mounted.call("GET", "/deep/in/ping", None, headers).status == 200
    headers = mounted.headers("req-1", b"GET /deep/in/ping")
    assert mounted.call("GET", "/deep/in/ping", None, headers).refusal == (401, "bad-signature")
