"""Paths and methods."""

import pytest

from dispatcher_wsgi_receiver.problems import Refusal
from dispatcher_wsgi_receiver.routes import Route, match


@pytest.mark.parametrize(
    ("method", "path", "route"),
    [
        ("POST", "/dispatch", Route("dispatch", "POST", "/dispatch")),
        ("POST", "/dispatch/batch", Route("dispatch-batch", "POST", "/dispatch/batch")),
        ("GET", "/jobs/a-1_B", Route("job-status", "GET", "/jobs/a-1_B", "a-1_B")),
        ("DELETE", "/jobs/x", Route("cancel-job", "DELETE", "/jobs/x", "x")),
        ("GET", "/jobs/" + "x" * 64, Route("job-status", "GET", "/jobs/" + "x" * 64, "x" * 64)),
        ("GET", "/batches/a-1_B", Route("batch-status", "GET", "/batches/a-1_B", "a-1_B")),
        ("DELETE", "/batches/x", Route("cancel-batch", "DELETE", "/batches/x", "x")),
        ("GET", "/ping", Route("ping", "GET", "/ping")),
        ("GET", "/health", Route("health", "GET", "/health")),
    ],
)
def test_known_routes(method, path, route):
    """Every route of the wire format is matched, with the id in its path."""
    assert match(method, path, "") == route


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/nothing",
        "/dispatch/",
        "/dispatch/batch/",
        "/dispatch/x",
        "/dispatch\n",
        "/Dispatch",
        "//dispatch",
        "/./dispatch",
        "/x/../dispatch",
        "/%64ispatch",
        "dispatch",
        "http://evil.example/dispatch",
        "/dispatch;x=1",
        "/dispatch\x00",
        "/ping/",
        "/jobs",
        "/jobs/",
        "/jobs/x/",
        "/jobs/x/y",
        "/jobs/../dispatch",
        "/jobs/.",
        "/jobs/-x",
        "/jobs/x.1",
        "/jobs/x\n",
        "/jobs/" + "x" * 65,
        "/jobs/\u00e9",
        "/jobs/\u00c3\u00a9",
        "/batches",
        "/batches/",
        "/batches/x/",
        "/batches/-x",
        "//batches/x",
        "/jobs/batches/x",
        "/x",
        "x",
    ],
)
def test_unknown_paths(path):
    """A path that is not written as in the wire format is 404 and reaches no handler."""
    with pytest.raises(Refusal) as caught:
        match("POST", path, "")
    assert caught.value.code == "not-found"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/dispatch", "POST"),
        ("PUT", "/dispatch", "POST"),
        ("HEAD", "/ping", "GET"),
        ("OPTIONS", "/health", "GET"),
        ("POST", "/jobs/x", "GET, DELETE"),
        ("HEAD", "/jobs/x", "GET, DELETE"),
        ("GET", "/dispatch/batch", "POST"),
        ("POST", "/batches/x", "GET, DELETE"),
        ("get", "/ping", "GET"),
    ],
)
def test_wrong_methods(method, path, allowed):
    """Another method is 405 and the answer says which are allowed."""
    with pytest.raises(Refusal) as caught:
        match(method, path, "")
    assert caught.value.code == "method-not-allowed"
    assert caught.value.headers == (("Allow", allowed),)


@pytest.mark.parametrize(("method", "path"), [("POST", "/dispatch"), ("GET", "/health")])
def test_a_query_is_refused(method, path):
    """A query is not covered by the signature, so any is malformed."""
    with pytest.raises(Refusal) as caught:
        match(method, path, "x=1")
    assert caught.value.code == "malformed"
