"""What every server lets a sender do: all operations, with the sender that applications use."""

import json
import os
from contextlib import closing

import pytest

from dispatcher_core import Job
from dispatcher_core.names import new_id

MIB = 1024 * 1024


@pytest.fixture
def dispatcher(server, monkeypatch):
    """A dispatcher that sends to the server, and trusts its certificate."""
    if server.certificate:
        monkeypatch.setenv("SSL_CERT_FILE", server.certificate)
    with server.dispatcher() as dispatcher:
        yield dispatcher


def test_a_job_is_dispatched_once_followed_and_cancelled(dispatcher):
    """A job is queued, known when it comes again, told the state of, and cancelled."""
    first = dispatcher.dispatch("send-mail", {"to": "ann"}).raise_for_error()
    again = dispatcher.dispatch("send-mail", {"to": "ann"}, id=first.id).raise_for_error()
    assert (first.state, first.duplicate, again.state, again.duplicate) == (
        ("queued", False, "queued", True)
    )
    status = dispatcher.status(first.id)
    assert (status.id, status.job, status.state) == (first.id, "send-mail", "queued")
    assert dispatcher.cancel(first.id).state == "cancelled"
    assert dispatcher.status(first.id).state == "cancelled"


def test_a_batch_is_dispatched_once_followed_and_cancelled(dispatcher):
    """A batch is taken whole, known when it comes again, counted, and cancelled."""
    jobs = [Job("send-mail", {"to": f"guest {number}"}) for number in range(3)]
    last = Job("send-mail", {"to": "ann", "subject": "all done"})
    first = dispatcher.batch(jobs, finally_=last).raise_for_error()
    again = dispatcher.batch(jobs, finally_=last, id=first.id).raise_for_error()
    assert first.ids == again.ids == tuple(job.id for job in jobs)
    assert (first.duplicate, again.duplicate) == (False, True)
    status = dispatcher.batch_status(first.id)
    assert (status.state, status.total, status.pending) == ("running", 3, 3)
    status = dispatcher.cancel_batch(first.id)
    assert (status.state, status.cancelled, status.finally_id) == ("cancelled", 3, last.id)


def test_ping_and_health(dispatcher, server):
    """The secret is accepted, and the health check needs none."""
    pong = dispatcher.ping()
    assert (pong.reachable, pong.secret_accepted, pong.workers) == (True, True, 0)
    reply = server.request("GET", "/health")
    assert (reply.status, reply.json) == (200, {"status": "ok"})
    assert reply.headers["cache-control"] == "no-store"


@pytest.mark.skipif(os.environ.get("SERVERS") != "all", reason="takes a second for each server")
def test_a_batch_of_nearly_the_largest_size_is_taken(server):
    """15 MiB go through in one request: no server or proxy has a lower limit."""
    text = "x" * (MIB // 2)
    jobs = [{"id": new_id(), "job": "send-mail", "payload": {"to": text}} for _ in range(30)]
    body = json.dumps({"type": "dispatch.batch", "jobs": jobs}).encode()
    assert len(body) > 15 * MIB
    id = new_id()
    reply = server.signed("POST", "/dispatch/batch", body, id)
    assert (reply.status, len(reply.json["ids"])) == (202, 30)
    assert server.signed("DELETE", f"/batches/{id}").json["cancelled"] == 30


def test_a_connection_serves_several_requests(server):
    """Three requests share a connection, or are told that it closes; refused ones too."""
    with closing(server.connect()) as connection:
        ports = set()
        for path, status in [("/health", 200), ("/nothing", 404), ("/health", 200)]:
            connection.request("GET", server.prefix + path)
            ports.add(connection.sock.getsockname()[1])
            answer = connection.getresponse()
            assert answer.status == status
            answer.read()
    assert len(ports) == (1 if server.deployment.keeps_connections else 3)
