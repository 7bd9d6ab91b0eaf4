"""A Flask application that dispatches from a view, and whose jobs have its context."""

import sqlite3

import pytest

TROUBLE = """
from flask import g

from dispatcher_core import current_job, job
from shop.jobs import app

ended_with = []


@app.teardown_appcontext
def note(error):
    ended_with.append(repr(error))


@job("fails-once", tries=2, backoff=0)
def fails_once():
    left_behind = g.get("mark")
    g.mark = "set"
    if current_job().attempt == 1:
        raise OSError("no paper")
    return {"left_behind": left_behind, "ended_with": [*ended_with]}
"""


@pytest.fixture
def shop(make_site):
    """The shop of the page, served, with a worker."""
    site = make_site("Flask", SHOP_GREETING="Cheers")
    site.write("shop/__init__.py", "")
    site.write("shop/trouble.py", TROUBLE)
    path = site.folder / "shop.sqlite3"
    site.environment["SHOP_DATABASE"] = str(path)
    site.environment["DISPATCHER_MODULES"] = "shop.jobs,shop.trouble"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE letter (text)")
    database.close()
    site.serve("--threads", "8", "shop.wsgi:app")
    site.work()
    return site


def test_a_view_dispatches_a_job_that_uses_the_application(shop):
    """A job that a view has dispatched over HTTP uses ``current_app`` and ``g``."""
    status = shop.run_by_post("/orders", customer="Ada")
    assert (status.state, status.result) == ("succeeded", "Cheers, Ada!")
    with sqlite3.connect(shop.folder / "shop.sqlite3") as database:
        assert database.execute("SELECT text FROM letter").fetchall() == [("Cheers, Ada!",)]
    database.close()


def test_each_attempt_has_a_context_of_its_own(shop):
    """``g`` is empty at each attempt, and what tears it down gets the exception that ended it."""
    status = shop.run_job("fails-once")
    assert (status.state, status.attempt) == ("succeeded", 2)
    assert status.result == {"left_behind": None, "ended_with": ["OSError('no paper')"]}
