"""A receiver with a clock that stands still, and clients that call it without a network."""

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
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
    now: int = NOW

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

    def headers(self, id: str, signed: bytes, timestamp: int | None = None) -> dict[str, str]:
        """The three headers that sign something, as WSGI names them."""
        timestamp = self.now if timestamp is None else timestamp
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
class Program:
    """A program that was started, and the file that all its output goes to."""

    process: subprocess.Popen
    output: Path

    def wait_for_output(self, pattern: str) -> re.Match:
        """The first match in the output; it must come within 20 s."""
        deadline = time.monotonic() + 20
        while (match := re.search(pattern, self.output.read_text())) is None:
            assert self.process.poll() is None, self.output.read_text()
            assert time.monotonic() < deadline, self.output.read_text()
            time.sleep(0.02)
        return match

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(20)


@dataclass(frozen=True, slots=True)
class Browser:
    """Makes requests over real connections to a port of this machine."""

    port: int

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Parts | None = None
    ) -> Reply:
        """One request over a connection of its own."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            fields = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, fields, answer.read())
        finally:
            connection.close()

    def signed(self, method: str, path: str, body: bytes | None = None, id: str = "x") -> Reply:
        """One request, signed now."""
        timestamp = int(time.time())
        content = signed_path(method, path) if body is None else body
        headers = {
            "content-type": "application/json",
            "webhook-id": id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": Signer(SECRET).sign(id, timestamp, content),
        }
        return self.request(method, path, body, headers)

    def exchange(self, data: bytes) -> bytes:
        """What comes back for these bytes, until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            with connection.makefile("rb") as stream:
                return stream.read()


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


@pytest.fixture
def browser_of() -> type[Browser]:
    """Makes requests to a port."""
    return Browser


@pytest.fixture
def backend(tmp_path: Path) -> dict[str, str]:
    """The environment of an application, in its folder, that takes one job."""
    (tmp_path / "shop_jobs.py").write_text(
        "from dispatcher_core import job\n\n\n"
        "@job('send-mail')\ndef send_mail(to):\n    return to\n"
    )
    inherited = {name: value for name, value in os.environ.items() if "DISPATCHER" not in name}
    return {
        **inherited,
        "DISPATCHER_IS_BACKEND": "true",
        "DISPATCHER_BACKEND_SECRET": SECRET,
        "DISPATCHER_MODULES": "shop_jobs",
        "DISPATCHER_QUEUE_URL": "sqlite:///queue.sqlite3",
    }


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Starts installed programs in a folder of their own; they end with the test."""
    started: list[Program] = []

    def start_program(environ: Parts, name: str, *arguments: str) -> Program:
        output = tmp_path / f"output-{len(started)}"
        command = [str(Path(sys.executable).with_name(name)), *arguments]
        with output.open("w") as file:
            process = subprocess.Popen(
                command, cwd=tmp_path, env=dict(environ), stdout=file, stderr=subprocess.STDOUT
            )
        started.append(Program(process, output))
        return started[-1]

    yield start_program
    for program in started:
        if program.process.poll() is None:
            program.process.kill()
            program.process.wait()
