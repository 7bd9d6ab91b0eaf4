"""Every problem code of the receiver, as it comes out of every server."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from dispatcher_core.names import new_id
from dispatcher_core.problems import STATUSES

GOOD = b'{"type":"dispatch","job":"send-mail","payload":{"to":"ann"}}'
OTHER_SECRET = "C3d4" * 16

# What tests further down, and those of other files, provoke in another way.
ELSEWHERE = {"internal", "unavailable", "length-required", "timeout", "queue-full"}


def dispatch(**members: object) -> bytes:
    """The body of a dispatch with these members."""
    message = {"type": "dispatch", "job": "send-mail", "payload": {"to": "ann"}, **members}
    return json.dumps(message).encode()


def batch(*names: str) -> bytes:
    """The body of a batch of jobs with these names."""
    jobs = [{"id": new_id(), "job": name, "payload": {"to": "ann"}} for name in names]
    return json.dumps({"type": "dispatch.batch", "jobs": jobs}).encode()


@dataclass(frozen=True, slots=True)
class Case:
    """A request that is refused, for a reason that comes after all earlier ones were met."""

    body: bytes | None = GOOD
    path: str = "/dispatch"
    method: str = "POST"
    signing: Mapping[str, object] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


CASES = {
    "malformed": Case(b'{"type":"dispatch","type":"dispatch"}'),
    "bad-signature": Case(signing={"secret": OTHER_SECRET}),
    "timestamp-out-of-range": Case(signing={"age": 1000}),
    "not-found": Case(None, "/jobs/nobody-knows-it", "GET"),
    "method-not-allowed": Case(method="PUT"),
    "too-large": Case(b" " * (1024 * 1024 + 1)),
    "unsupported-media-type": Case(headers={"content-type": "text/plain"}),
    "unknown-job": Case(dispatch(job="make-tea")),
    "invalid-payload": Case(dispatch(payload={"whom": "ann"})),
    "invalid-request": Case(dispatch(colour="red")),
    "invalid-batch": Case(batch("send-mail", "make-tea"), "/dispatch/batch"),
}


def answer(server, case, id):
    """What the server answers to the request of a case."""
    content = f"{case.method} {case.path}".encode() if case.body is None else case.body
    headers = server.headers(id, content, **case.signing) | case.headers
    return server.request(case.method, case.path, case.body, headers)


def test_every_code_is_tried():
    """A code that is new needs a case here."""
    assert {*CASES, "id-reused"} | ELSEWHERE >= set(STATUSES)


@pytest.mark.parametrize("code", CASES)
def test_a_refusal(server, code):
    """The status, the problem document and its headers come through; nothing is queued."""
    id = new_id()
    reply = answer(server, CASES[code], id)
    assert reply.refusal == (STATUSES[code], code)
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.headers["cache-control"] == "no-store"
    assert reply.json["status"] == reply.status
    assert reply.headers.get("allow") == ("POST" if reply.status == 405 else None)
    challenge = "Webhook-Signature" if reply.status == 401 else None
    assert reply.headers.get("www-authenticate") == challenge
    assert not server.knows(id)


def test_an_id_that_is_used_again_for_something_else(server):
    """``id-reused``: the first job stays what it was."""
    id = new_id()
    assert server.signed("POST", "/dispatch", GOOD, id).status == 202
    reply = server.signed("POST", "/dispatch", dispatch(payload={"to": "bob"}), id)
    assert reply.refusal == (422, "id-reused")
    assert server.signed("POST", "/dispatch", GOOD, id).status == 200


def test_a_full_queue(server):
    """``queue-full`` with a time to wait; there is room once what waits is cancelled."""
    half = server.max_queued // 2 + 1
    first, second = new_id(), new_id()
    bodies = [batch(*["send-mail"] * half) for _ in range(2)]
    assert server.signed("POST", "/dispatch/batch", bodies[0], first).status == 202
    reply = server.signed("POST", "/dispatch/batch", bodies[1], second)
    assert reply.refusal == (429, "queue-full")
    assert int(reply.headers["retry-after"]) > 0
    assert server.signed("POST", "/dispatch/batch", bodies[0], first).status == 200
    assert server.signed("DELETE", f"/batches/{first}").status == 200
    assert server.signed("POST", "/dispatch/batch", bodies[1], second).status == 202
    assert server.signed("DELETE", f"/batches/{second}").status == 200


def test_a_queue_that_cannot_be_opened(server):
    """``unavailable`` with a time to wait; the server goes on, and works once the queue does."""
    reply = server.while_broken["unavailable"]
    assert reply.refusal == (503, "unavailable")
    assert reply.headers["retry-after"] == "1"
    assert not server.knows("early-1")


def test_a_queue_that_is_broken(server):
    """``internal`` and nothing about files; the server goes on, and works once the queue does."""
    reply = server.while_broken["internal"]
    assert reply.refusal == (500, "internal")
    assert b"sqlite" not in reply.body
    assert not server.knows("early-2")
