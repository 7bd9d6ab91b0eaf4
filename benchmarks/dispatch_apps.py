"""The WSGI applications that ``benchmarks/dispatch.py`` holds the receiver against."""

import json
import os
import sqlite3
import threading
from collections.abc import Iterable
from pathlib import Path
from wsgiref.types import StartResponse, WSGIEnvironment

from cases import INSERT, raw_connection

from dispatcher_core.names import new_id

LOCAL = threading.local()


def nothing(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Read the request, answer as the receiver does."""
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    assert body
    return answered(environ["HTTP_WEBHOOK_ID"], start_response)


def commit(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Read the request, insert a row with its body, and commit."""
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    row = (new_id(), "noop", "default", 0, "queued", 1, 1, body.decode())
    connection().execute(INSERT, row)
    return answered(environ["HTTP_WEBHOOK_ID"], start_response)


def answered(id: str, start_response: StartResponse) -> Iterable[bytes]:
    """The answer of the receiver to a job that it took."""
    content = json.dumps({"id": id, "state": "queued"}).encode()
    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(content))),
        ("Cache-Control", "no-store"),
    ]
    start_response("202 Accepted", headers)
    return [content]


def connection() -> sqlite3.Connection:
    """The connection of this thread."""
    if not hasattr(LOCAL, "connection"):
        LOCAL.connection = raw_connection(Path(os.environ["RAW_DATABASE"]))
    known: sqlite3.Connection = LOCAL.connection
    return known
