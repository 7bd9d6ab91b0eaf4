"""``docs/vectors.json`` computed anew: by the code, and by the standard library alone."""

import base64
import hashlib
import hmac
import io
import json
from pathlib import Path
from wsgiref.util import setup_testing_defaults

import pytest

from dispatcher_core import ConfigError, SignatureError, Signer
from dispatcher_core.aliases import AliasRegistry
from dispatcher_core.batch_wire import decode_batch
from dispatcher_core.keys import signing_key
from dispatcher_core.names import is_id, is_name
from dispatcher_core.signing import read_headers
from dispatcher_core.testing import MemoryQueue
from dispatcher_core.wire import VERSION, decode_dispatch
from dispatcher_wsgi_receiver import Receiver

VECTORS = json.loads(
    (Path(__file__).parents[2] / "docs" / "vectors.json").read_text(encoding="utf-8")
)
SECRETS = VECTORS["secrets"]
FINGERPRINTS = VECTORS["fingerprints"]

GOOD_SIGNATURE = "v1," + "A" * 43 + "="


def named(vectors: list[dict]) -> object:
    """A parameter ``vector`` for each of them."""
    names = [str(vector.get("name", index)) for index, vector in enumerate(vectors)]
    assert len(set(names)) == len(names)
    return pytest.mark.parametrize("vector", vectors, ids=names)


def key_of(secret: str) -> bytes:
    """The key that a secret stands for, in the simplest way."""
    if secret.startswith("whsec_"):
        return base64.b64decode(secret.removeprefix("whsec_"))
    return secret.encode("ascii")


def content_of(vector: dict) -> bytes:
    """What a request signs besides its id and timestamp."""
    if vector["method"] == "POST":
        return vector["body"].encode("utf-8")
    return f"{vector['method']} {vector['path']}".encode("ascii")


def send_mail(**payload: object) -> None:
    """A job that takes any payload."""


def answer_to(vector: dict) -> tuple[int, dict]:
    """What a receiver that has the secrets of the vectors answers at their time."""
    body = (vector["body"] or "").encode("utf-8")
    environ: dict = {
        "REQUEST_METHOD": vector["method"],
        "SCRIPT_NAME": "/dispatcher",
        "PATH_INFO": vector["path"],
        "wsgi.input": io.BytesIO(body),
    }
    if vector["body"] is not None:
        environ |= {"CONTENT_TYPE": "application/json", "CONTENT_LENGTH": str(len(body))}
    for name, value in vector["headers"].items():
        environ["HTTP_" + name.upper().replace("-", "_")] = value
    setup_testing_defaults(environ)
    started: list[str] = []

    def start_response(status, headers, exc_info=None):
        started.append(status)
        return lambda data: None

    signer = Signer(SECRETS["current"], SECRETS["previous"])
    registry = AliasRegistry({"send-mail": send_mail})
    receiver = Receiver(signer, MemoryQueue(), registry, clock=lambda: vector["now"])
    content = b"".join(receiver(environ, start_response))
    return int(started[0][:3]), json.loads(content)


def test_the_vectors_are_of_this_version():
    """A new version of the wire format needs vectors of its own."""
    assert VECTORS["version"] == VERSION


@named(SECRETS["valid"])
def test_secrets(vector):
    """A good secret stands for the key that is told."""
    assert (
        signing_key(vector["secret"]) == key_of(vector["secret"]) == bytes.fromhex(vector["key"])
    )


@named(SECRETS["invalid"])
def test_secrets_that_are_refused(vector):
    """A bad secret signs nothing."""
    with pytest.raises(ConfigError):
        signing_key(vector["secret"])


@named(VECTORS["signatures"])
def test_signatures(vector):
    """The code, and hmac alone, make the signature that is told."""
    content, id, timestamp = content_of(vector), vector["id"], vector["timestamp"]
    signed = f"{id}.{timestamp}.".encode() + content
    assert signed == vector["signed"].encode("utf-8")
    digest = hmac.new(key_of(vector["secret"]), signed, hashlib.sha256).digest()
    assert vector["signature"] == "v1," + base64.b64encode(digest).decode()
    assert vector["signature"] == Signer(vector["secret"]).sign(id, timestamp, content)


def test_each_kind_of_content_is_signed():
    """There are vectors of both key forms, all methods, an empty and a non-ASCII body."""
    vectors = VECTORS["signatures"]
    assert {vector["method"] for vector in vectors} == {"POST", "GET", "DELETE"}
    assert {vector["secret"].startswith("whsec_") for vector in vectors} == {True, False}
    bodies = [vector["body"] for vector in vectors if vector["body"] is not None]
    assert "" in bodies
    assert not all(map(str.isascii, bodies))


@named(VECTORS["accepted"])
def test_requests_that_are_accepted(vector):
    """A receiver takes the signature."""
    headers, content = vector["headers"], content_of(vector)
    Signer(SECRETS["current"], SECRETS["previous"]).verify(headers, content, vector["now"])
    status, answer = answer_to(vector)
    assert status == vector["status"], answer


@named(VECTORS["refused"])
def test_requests_that_are_refused(vector):
    """A receiver refuses the request, with the status and code that are told."""
    with pytest.raises(SignatureError) as caught:
        Signer(SECRETS["current"], SECRETS["previous"]).verify(
            vector["headers"], content_of(vector), vector["now"]
        )
    status, answer = answer_to(vector)
    assert (status, answer["code"]) == (vector["status"], vector["code"])
    assert caught.value.code == vector["code"]
    assert vector["reason"]


@named(FINGERPRINTS["jobs"])
def test_fingerprints_of_jobs(vector):
    """The fingerprint is the SHA-256 of the canonical text, which means the job."""
    job = decode_dispatch("id", vector["body"].encode("utf-8"))
    assert json.loads(vector["canonical"]) == [job.job, job.payload, job.queue]
    assert hashlib.sha256(vector["canonical"].encode("ascii")).hexdigest() == vector["sha256"]
    assert job.fingerprint.hex() == vector["sha256"]


@named(FINGERPRINTS["batches"])
def test_fingerprints_of_batches(vector):
    """The fingerprint is the SHA-256 of the canonical text, which means the batch."""
    batch = decode_batch("id", vector["body"].encode("utf-8"))
    *callbacks, jobs = json.loads(vector["canonical"])[3:]
    assert jobs == [[job.job, job.payload, job.queue] for job in batch.jobs]
    assert [each is not None for each in callbacks] == [
        name in batch.callbacks for name in ("then", "catch", "finally")
    ]
    assert hashlib.sha256(vector["canonical"].encode("ascii")).hexdigest() == vector["sha256"]
    assert batch.fingerprint.hex() == vector["sha256"]


@pytest.mark.parametrize(
    ("texts", "accepts"),
    [(VECTORS["ids"], is_id), (VECTORS["names"], is_name)],
    ids=["ids", "names"],
)
def test_ids_and_names(texts, accepts):
    """Those that are told to be valid are accepted, the others are not."""
    assert [text for text in texts["valid"] if not accepts(text)] == []
    assert [text for text in texts["invalid"] if accepts(text)] == []


@named(VECTORS["timestamps"]["valid"])
def test_timestamps(vector):
    """The header is read, and is near enough to the time."""
    signed = {"webhook-id": "a", "webhook-signature": GOOD_SIGNATURE}
    headers = read_headers({**signed, "webhook-timestamp": vector["header"]})
    headers.check_time(vector["now"])
    assert headers.timestamp == int(vector["header"])


@named(VECTORS["timestamps"]["invalid"])
def test_timestamps_that_are_refused(vector):
    """The header is refused, with the status and code that are told."""
    headers = {
        "webhook-id": "a",
        "webhook-signature": GOOD_SIGNATURE,
        "webhook-timestamp": vector["header"],
    }
    request = {"method": "GET", "path": "/ping", "body": None, "headers": headers}
    status, answer = answer_to({**request, "now": vector["now"]})
    assert (status, answer["code"]) == (vector["status"], vector["code"])
