"""A Django project that dispatches from a view, and whose jobs use its models."""

import sqlite3

import pytest

SETTINGS = """
import os
from pathlib import Path

SECRET_KEY = "only for this test"
DEBUG = True
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = ["members"]
MIDDLEWARE = []
ROOT_URLCONF = "website.urls"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AGE = os.environ["MAX_AGE"]
DATABASES = {
    "default": {
        "ENGINE": "website.engine",
        "NAME": Path(__file__).parent / "website.sqlite3",
        "CONN_MAX_AGE": None if AGE == "None" else int(AGE),
        # A file, for a connection to a database in memory is never closed.
        "TEST": {"NAME": Path(__file__).parent / "test.sqlite3"},
    }
}
"""

# Django's own for SQLite calls every connection usable. This one asks, as others do.
ENGINE = """
from sqlite3 import Error

from django.db.backends.sqlite3 import base


class DatabaseWrapper(base.DatabaseWrapper):
    def is_usable(self):
        try:
            self.connection.execute("SELECT 1")
        except Error:
            return False
        return True
"""

URLS = """
from django.urls import path

from members.views import sign_up

urlpatterns = [path("members", sign_up)]
"""

MODELS = """
from django.db import models


class Letter(models.Model):
    address = models.EmailField()
    text = models.TextField()
"""

TROUBLE = """
from asgiref.sync import sync_to_async
from django.db import connection, transaction

from dispatcher_core import current_job, job
from members.models import Letter


def close_underneath():
    connection.ensure_connection()
    connection.connection.close()


@job("broken-connection", tries=2, backoff=0)
def broken_connection():
    if current_job().attempt == 1:
        close_underneath()
    return Letter.objects.count()


@job("broken-connection-async", tries=2, backoff=0)
async def broken_connection_async():
    if current_job().attempt == 1:
        await sync_to_async(close_underneath)()
    await Letter.objects.acreate(address="ada@example.com", text="Hello")
    return await Letter.objects.acount()


@job("leaves-transaction-open")
def leaves_transaction_open():
    transaction.atomic().__enter__()
    Letter.objects.create(address="lost@example.com", text="never committed")


@job("look-at-connection")
def look_at_connection():
    found = {"open": connection.connection is not None, "queries": len(connection.queries)}
    return found | {"letters": Letter.objects.count()}
"""

TESTS = """
from django.test import TestCase

from dispatcher_core.contrib.django import around_job
from dispatcher_core.testing import job_context
from members.jobs import welcome
from members.models import Letter


class WelcomeTest(TestCase):
    def test_writes_a_letter(self):
        Letter.objects.create(address="first@example.com", text="before")
        with job_context() as context, around_job(context):
            welcome("ada@example.com")
        self.assertEqual(Letter.objects.count(), 2)
"""


@pytest.fixture
def make_project(make_site):
    """Makes the project of the page, with a migrated database."""

    def make(max_age="0"):
        site = make_site("Django", DJANGO_SETTINGS_MODULE="website.settings", MAX_AGE=max_age)
        site.write("website/settings.py", SETTINGS)
        site.write("website/engine/base.py", ENGINE)
        site.write("website/urls.py", URLS)
        site.write("members/__init__.py", "")
        site.write("members/models.py", MODELS)
        site.write("members/trouble.py", TROUBLE)
        site.environment["DISPATCHER_MODULES"] = "members.jobs,members.trouble"
        return site

    return make


@pytest.fixture
def start_project(make_project):
    """Makes the project, and starts its server and its worker."""

    def start(max_age="0"):
        site = make_project(max_age)
        migrated = site.run("django-admin", "migrate", "--run-syncdb", "--pythonpath", ".")
        assert migrated.returncode == 0, migrated.stderr
        site.serve("--threads", "8", "website.wsgi")
        site.work()
        return site

    return start


def letters(site):
    """The rows of the model, read past Django."""
    with sqlite3.connect(site.folder / "website" / "website.sqlite3") as database:
        found = database.execute("SELECT id, address FROM members_letter").fetchall()
    database.close()
    return found


def test_a_view_dispatches_a_job_that_uses_a_model(start_project):
    """A job that a view has dispatched over HTTP creates a row of a model."""
    site = start_project()
    status = site.run_by_post("/members", email="ada@example.com")
    assert (status.state, status.attempt) == ("succeeded", 1)
    assert letters(site) == [(status.result, "ada@example.com")]


@pytest.mark.parametrize("name", ["broken-connection", "broken-connection-async"])
def test_a_broken_connection_is_replaced_for_the_next_attempt(start_project, name):
    """A job whose connection broke fails once, then works, though connections never expire."""
    site = start_project(max_age="None")
    status = site.run_job(name)
    assert (status.state, status.attempt) == ("succeeded", 2)
    assert status.result == len(letters(site))


def test_a_transaction_left_open_is_rolled_back(start_project):
    """What a job never committed is gone, and later jobs are not caught in its transaction."""
    site = start_project(max_age="None")
    assert site.run_job("leaves-transaction-open").state == "succeeded"
    status = site.run_job("welcome", email="ada@example.com")
    assert status.state == "succeeded"
    assert letters(site) == [(status.result, "ada@example.com")]


@pytest.mark.parametrize(("max_age", "stays_open"), [("0", False), ("None", True)])
def test_connections_live_as_long_as_the_settings_say(start_project, max_age, stays_open):
    """``CONN_MAX_AGE`` counts between jobs; the log of queries starts afresh with each."""
    site = start_project(max_age)
    site.run_job("look-at-connection")
    expected = {"open": stays_open, "queries": 0, "letters": 0}
    assert site.run_job("look-at-connection").result == expected


def test_a_transaction_around_a_job_stays(make_project):
    """In a Django ``TestCase``, which runs in a transaction, the hook leaves the connection be."""
    site = make_project()
    site.write("members/tests.py", TESTS)
    tested = site.run("django-admin", "test", "--pythonpath", ".")
    assert tested.returncode == 0, tested.stderr
    assert "Ran 1 test" in tested.stderr


@pytest.mark.parametrize("command", [["work"], ["serve", "--port", "0"]])
def test_settings_that_are_not_named_are_asked_for(make_project, command):
    """Without ``DJANGO_SETTINGS_MODULE`` a program ends at its start, and names the variable."""
    site = make_project()
    del site.environment["DJANGO_SETTINGS_MODULE"]
    ended = site.run("dispatcher", *command)
    assert ended.returncode == 2
    assert ended.stderr.count("DJANGO_SETTINGS_MODULE") == 1
    assert "dispatcher_core.contrib.django:around_job" in ended.stderr
    assert "Traceback" not in ended.stderr
