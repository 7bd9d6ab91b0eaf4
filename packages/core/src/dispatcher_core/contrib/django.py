"""Jobs in a Django project: models that can be imported, database connections that work.

Set ``DISPATCHER_AROUND_JOB=dispatcher_core.contrib.django:around_job``, and
``DJANGO_SETTINGS_MODULE`` as for every Django program. Hooks are imported before the modules
with the jobs, so those may import models.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import django
from asgiref.sync import sync_to_async
from django.apps import apps
from django.db import connections, reset_queries

from dispatcher_core.context import JobContext

__all__ = ["around_job"]

if not apps.ready:
    django.setup()


@contextmanager
def around_job(context: JobContext) -> Iterator[None]:
    """Do for an attempt what Django does for a request.

    Before and after it, database connections are closed which are broken or older than
    ``CONN_MAX_AGE``, those of asynchronous queries too. Connections in a transaction that
    began before the attempt, such as a test's, are left alone; one that the attempt began and
    never ended is rolled back.

    Args:
        context: the job; it makes no difference.
    """
    _in_both_threads(_close_stale)
    outer = _in_transaction()
    try:
        yield
    finally:
        for alias in _in_transaction() - outer:
            _discard(alias)
        _in_both_threads(_close_stale)


def _close_stale() -> None:
    reset_queries()  # with DEBUG, Django keeps every query
    for connection in connections.all(initialized_only=True):
        # Django's close_old_connections() would close it in the middle of its transaction.
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()


def _in_transaction() -> set[str]:
    opened = connections.all(initialized_only=True)
    return {connection.alias for connection in opened if connection.in_atomic_block}


def _discard(alias: str) -> None:
    """Roll back, and forget the connection: its next user gets a new one."""
    connections[alias].close()
    del connections[alias]


def _in_both_threads(call: Callable[[], None]) -> None:
    """Call it here, and in the thread in which Django runs asynchronous queries."""
    call()
    # A loop that is set for this thread stays so: handlers may count on it.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(sync_to_async(call)())
