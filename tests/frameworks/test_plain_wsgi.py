"""A program without a framework that dispatches."""

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
