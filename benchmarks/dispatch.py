"""What a dispatch costs from end to end, held against bare HTTP and bare SQLite in one run.

Run from the repository's root: ``.venv/bin/python benchmarks/dispatch.py [PART]...``; the parts
are the functions below without their ``part_``. Exit status 1 when a goal is missed.
"""

import base64
import http.client
import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

sys.path[0] = str(
    Path(__file__).resolve().parents[1]
)  # not this folder, whose queue.py would hide the standard library's

import bcrypt
import requests
from benchmarks.cases import raw_database
from benchmarks.measuring import Table, folder, medians, per_second, run
from benchmarks.programs import RECEIVER, SECRET, served

from dispatcher_core import Config, Dispatcher, Job, Signer
from dispatcher_core.names import new_id
from dispatcher_core.wire import encode_dispatch
from dispatcher_http_sender import UrllibSender
from dispatcher_http_sender.requests_sender import RequestsSender

COUNT = 500
PAYLOAD = {"number": 1, "text": "x" * 170}


def part_dispatching(table: Table) -> None:
    """Single dispatches one after the other, by both senders, and what they are made of."""
    table.title(f"{COUNT} requests one after the other, gunicorn gthread, kept connections")
    with ExitStack() as stack:
        place = stack.enter_context(folder())
        raw_database(place / "raw.sqlite3").close()
        raw = {"RAW_DATABASE": str(place / "raw.sqlite3")}
        nothing, commit, receiver = (
            stack.enter_context(served(place, app, processes=1, more=raw))
            for app in ("dispatch_apps:nothing", "dispatch_apps:commit", RECEIVER)
        )
        config = Config(url=receiver, secret=SECRET)
        body = encode_dispatch(Job("noop", PAYLOAD), "default", datetime.now(UTC))
        rates = medians(
            bare_rate(nothing, body),
            bare_rate(commit, body),
            requests_rate(nothing, body),
            dispatch_rate(Dispatcher(config, sender=UrllibSender())),
            dispatch_rate(Dispatcher(config, sender=RequestsSender())),
        )
    bare, committed, session, ours, by_requests = rates
    table.row("(a) http.client, an app that does nothing", f"{bare:,.0f}/s")
    table.row("(b) http.client, an app that commits one row", f"{committed:,.0f}/s")
    table.row("(c) requests.Session, an app that does nothing", f"{session:,.0f}/s")
    table.row("Dispatcher with UrllibSender", f"{ours:,.0f}/s")
    table.row("Dispatcher with RequestsSender", f"{by_requests:,.0f}/s")
    table.ratio("UrllibSender / (b)", ours / committed, least=0.6)
    table.ratio("UrllibSender / (c)", ours / session, least=1.0)
    table.row("RequestsSender / (c)", f"{by_requests / session:.2f}")


def part_signing(table: Table) -> None:
    """Signing and verifying a request, beside the password hash that the ported system used."""
    table.title("signing and verifying 1 KiB")
    signer, body = Signer(SECRET), os.urandom(1024)
    both, hashed = medians(
        lambda: 1 / per_second(2000, lambda: [sign_and_verify(signer, body) for _ in range(2000)]),
        lambda: 1 / per_second(1, lambda: bcrypt.hashpw(base64.b64encode(body)[:72], SALT)),
    )
    table.row("HMAC-SHA256, both", f"{both * 1e6:.1f} us", goal="under 15 us", met=both < 15e-6)
    table.row("bcrypt with cost 10, once", f"{hashed * 1000:.0f} ms")
    table.row("bcrypt / HMAC", f"{hashed / both:,.0f}")


SALT = bcrypt.gensalt(10)


def sign_and_verify(signer: Signer, body: bytes) -> None:
    """What sender and receiver do for one request."""
    now = int(time.time())
    headers = {
        "webhook-id": "01a2-noop",
        "webhook-timestamp": str(now),
        "webhook-signature": signer.sign("01a2-noop", now, body),
    }
    signer.verify(headers, body, now)


# Requests


def bare_rate(url: str, body: bytes) -> Callable[[], float]:
    """A measure of the requests a second that a kept connection carries."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc)

    def post() -> None:
        connection.request("POST", "/dispatch", body, headers())
        response = connection.getresponse()
        content = response.read()
        assert response.status == 202, content

    return lambda: per_second(COUNT, lambda: [post() for _ in range(COUNT)])


def requests_rate(url: str, body: bytes) -> Callable[[], float]:
    """The same with ``requests``."""
    session = requests.Session()

    def post() -> None:
        response = session.post(f"{url}/dispatch", data=body, headers=headers())
        assert response.status_code == 202, response.text

    return lambda: per_second(COUNT, lambda: [post() for _ in range(COUNT)])


def dispatch_rate(dispatcher: Dispatcher) -> Callable[[], float]:
    """The same with a Dispatcher: signed, verified, and kept durably."""

    def dispatch() -> None:
        dispatcher.dispatch("noop", PAYLOAD).raise_for_error()

    return lambda: per_second(COUNT, lambda: [dispatch() for _ in range(COUNT)])


def headers() -> dict[str, str]:
    """The headers of a dispatch; nobody verifies this signature."""
    return {
        "Content-Type": "application/json",
        "webhook-id": new_id(),
        "webhook-timestamp": "1700000000",
        "webhook-signature": "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
    }


if __name__ == "__main__":
    sys.exit(run(globals()))
