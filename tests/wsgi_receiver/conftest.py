"""A receiver with a clock that stands still, and clients that call it without a network."""

import io
import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection
from wsgiref.types import WSGIApplication
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from dispatcher_core.aliases import AliasRegistry
from dispatcher_core.signing import Signer, signed_path
from dispatcher_core.testing import MemoryQueue
from dispatcher_wsgi_receiver import Receiver

SECRET = "A1b2" * 16
NOW = 1674087231

Parts = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer: status, header fields by their names in lower case, body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict:
        """The object in the body."""
        return json.loads(self.body)

    @property
    def refusal(self) -> tuple[int, str]:
        """The status and the problem code."""
        return self.status, self.json["code"]


@dataclass(slots=True)
class Client:
    """Calls a WSGI application, by default under the checks of ``wsgiref.validate``."""

    app: WSGIApplication
    signer: Signer = field(default_factory=lambda: Signer(SECRET))

    def call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        environ: Parts | None = None,
        *,
        validate: bool = True,
        stream: object = None,
    ) -> Reply:
        """One request, with these parts of its environment changed."""
        parts: dict[str, object] = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "QUERY_STRING": "",
            "SCRIPT_NAME": "",
        }
        if body is not None:
            parts |= {"CONTENT_LENGTH": str(len(body)), "CONTENT_TYPE": "application/json"}
        parts |= {"wsgi.input": stream or io.BytesIO(body or b""), **(environ or {})}
        setup_testing_defaults(parts)
        started: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(status, headers, exc_info=None):
            started.append((status, headers))
            return lambda data: None

        answer = (validator(self.app) if validate else self.app)(parts, start_response)
        content = b"".join(answer)
        getattr(answer, "close", lambda: None)()
        status, headers = started[0]
        return Reply(int(status[:3]), {name.lower(): value for name, value in headers}, content)

    def headers(self, id: str, signed: bytes, timestamp: int = NOW) -> dict[str, str]:
        """The three headers that sign something, as WSGI names them."""
        return {
            "HTTP_WEBHOOK_ID": id,
            "HTTP_WEBHOOK_TIMESTAMP": str(timestamp),
            "HTTP_WEBHOOK_SIGNATURE": self.signer.sign(id, timestamp, signed),
        }

    def post(
        self, body: bytes, id: str = "job-1", environ: Parts | None = None, **options: object
    ) -> Reply:
        """A signed dispatch; ``environ`` changes it after it was signed."""
        parts = {**self.headers(id, body), **(environ or {})}
        return self.call("POST", "/dispatch", body, parts, **options)

    def dispatch(self, job: str, id: str = "job-1", **members: object) -> Reply:
        """A signed dispatch of a job."""
        message = {"type": "dispatch", "job": job, **members}
        return self.post(json.dumps(message).encode(), id)

    def ask(self, method: str, path: str, environ: Parts | None = None) -> Reply:
        """A signed request without a body."""
        parts = {**self.headers("req-1", signed_path(method, path)), **(environ or {})}
        return self.call(method, path, None, parts)


@dataclass(frozen=True, slots=True)
class Server:
    """A program that serves: its process, where it listens, and what it printed until then."""

    process: subprocess.Popen
    port: int
    printed: str

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Parts | None = None
    ) -> Reply:
        """One request over a connection of its own."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            fields = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, fields, answer.read())
        finally:
            connection.close()

    def signed(
        self, method: str, path: str, id: str, timestamp: int, body: bytes | None = None
    ) -> Reply:
        """One signed request."""
        content = signed_path(method, path) if body is None else body
        headers = {
            "content-type": "application/json",
            "webhook-id": id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": Signer(SECRET).sign(id, timestamp, content),
        }
        return self.request(method, path, body, headers)


def send_mail(to: str, subject: str = "") -> None:
    """A handler with one parameter that must be given."""


@pytest.fixture
def secret() -> str:
    """The secret of every receiver here."""
    return SECRET


@pytest.fixture
def now() -> int:
    """The time at which the clock of ``client`` stands, in Unix seconds."""
    return NOW


@pytest.fixture
def queue() -> MemoryQueue:
    """The queue of ``client``."""
    return MemoryQueue()


@pytest.fixture
def make_client() -> Callable[..., Client]:
    """Makes a client of a receiver with that queue."""

    def make(queue, registry=None, signer=None, **options) -> Client:
        known = registry or AliasRegistry({"send-mail": send_mail})
        options.setdefault("clock", lambda: NOW)
        return Client(Receiver(signer or Signer(SECRET), queue, known, **options))

    return make


@pytest.fixture
def client(make_client, queue) -> Client:
    """A client of a receiver that knows one job, ``send-mail``."""
    return make_client(queue)


@pytest.fixture
def client_of() -> type[Client]:
    """A client of any WSGI application."""
    return Client
