"""Loopback servers that answer as a test tells them to."""

import contextlib
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

import pytest

Script = Callable[[socket.socket, "Server"], None]


@dataclass(slots=True)
class Server:
    """A server on 127.0.0.1, each connection in a thread of its own.

    Attributes:
        script: what to do with a connection; its end closes the connection.
        context: serves TLS where it is given.
        requests: the requests that were read, each with its header and body.
        connections: how many were accepted.
        stopping: set when the test is over.
    """

    script: Script
    context: ssl.SSLContext | None = None
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    stopping: Event = field(default_factory=Event)
    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    threads: list[Thread] = field(default_factory=list)

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.listener.getsockname()[1]}"

    @property
    def url(self) -> str:
        return f"{'https' if self.context else 'http'}://{self.place}/dispatch"

    def start(self) -> None:
        self.threads.append(Thread(target=self._accept))
        self.threads[0].start()

    def stop(self) -> None:
        self.stopping.set()
        # Wakes the accept; close alone does not.
        self.listener.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join(10)
            assert not thread.is_alive()
        self.listener.close()

    def read_request(self, connection: socket.socket) -> bytes:
        """One whole request; it is kept in ``requests`` too."""
        request = b""
        while b"\r\n\r\n" not in request:
            request += self._receive(connection)
        header, _, body = request.partition(b"\r\n\r\n")
        length = 0
        for line in header.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        while len(body) < length:
            body += self._receive(connection)
        self.requests.append(header + b"\r\n\r\n" + body)
        return self.requests[-1]

    def _receive(self, connection: socket.socket) -> bytes:
        piece = connection.recv(65536)
        if not piece:
            raise ConnectionError("the client has left")
        return piece

    def _accept(self) -> None:
        while not self.stopping.is_set():
            with contextlib.suppress(OSError):
                connection = self.listener.accept()[0]
                self.connections += 1
                self.threads.append(Thread(target=self._serve, args=(connection,)))
                self.threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        # A script that waits for bytes ends at the latest when the client has given up.
        connection.settimeout(30)
        # Or else an answer may still wait behind TLS's session tickets when a reset drops it.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection, contextlib.suppress(OSError):
            if self.context is None:
                self.script(connection, self)
                return
            with self.context.wrap_socket(connection, server_side=True) as secured:
                self.script(secured, self)


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Starts servers; they stop with the test."""
    servers: list[Server] = []

    def start(script: Script, context: ssl.SSLContext | None = None) -> Server:
        servers.append(Server(script, context))
        servers[-1].start()
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port that refuses connections: it is bound, so nobody else gets it."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key in the same file."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command")
    folder = tmp_path_factory.mktemp("tls")
    key, cert, both = folder / "key.pem", folder / "cert.pem", folder / "both.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext"
    subprocess.run(
        [*command.split(), "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
        check=True,
        capture_output=True,
        timeout=60,
    )
    both.write_bytes(key.read_bytes() + cert.read_bytes())
    return both


@pytest.fixture
def server_context(certificate: Path) -> ssl.SSLContext:
    """The server's side of TLS with the self-signed certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
def client_context(certificate: Path) -> ssl.SSLContext:
    """The client's side of TLS, trusting just the self-signed certificate."""
    return ssl.create_default_context(cafile=certificate)
