"""A program without a framework that dispatches, and the receiver as a program of its own."""

import pytest


@pytest.fixture
def plain(make_site):
    """The files of the page, with a worker."""
    site = make_site("Plain WSGI")
    site.work()
    return site


def test_a_wsgi_callable_dispatches_beside_the_receiver(plain):
    """A job that a plain WSGI callable has dispatched over HTTP runs."""
    plain.serve("--threads", "8", "web:app")
    status = plain.run_by_post("/", text="one two three")
    assert (status.state, status.result) == ("succeeded", 3)


def test_the_receiver_runs_alone_under_gunicorn(plain):
    """``create_app()`` is all that gunicorn needs."""
    plain.environment["DISPATCHER_BACKEND_URL"] = plain.url
    plain.serve("--threads", "8", "dispatcher_wsgi_receiver:create_app()")
    assert plain.run_job("count-words", text="one two").result == 2


def test_the_receiver_runs_alone_with_the_command(plain):
    """``dispatcher serve`` takes jobs on the port that it prints."""
    server = plain.start("dispatcher", "serve", "--port", "0")
    found = server.wait_for(r"listening on (http://\S+)")
    plain.environment["DISPATCHER_BACKEND_URL"] = found[1]
    assert plain.run_job("count-words", text="one two").result == 2
