"""A real receiver, and a network in front of it that treats each connection as a test says."""

import contextlib
import socket
import sqlite3
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from dispatcher_core import Config, Dispatcher
from dispatcher_core.aliases import AliasRegistry
from dispatcher_core.delivery import Clock
from dispatcher_core.protocols import Sender
from dispatcher_http_sender import UrllibSender
from dispatcher_local_queue import SQLiteQueue
from dispatcher_wsgi_receiver import create_app
from dispatcher_wsgi_receiver.server import Server

SECRET = "delivery-0123456789-abcdefghij"
LOOPBACK = ("127.0.0.1", 0)
PATIENCE = 30.0  # seconds after which something that should have ended never will

Script = Callable[["Wire"], None]


@dataclass(slots=True)
class Wire:
    """A connection that a sender has made.

    Attributes:
        socket: its other end.
        backend: where the receiver listens.
        requests: every request that was read, on this connection and others.
        sent: bytes that ``flood`` sent.
        stopping: set when the test is over.
    """

    socket: socket.socket
    backend: Any
    requests: list[bytes]
    stopping: Event
    sent: int = 0

    def request(self) -> bytes:
        """The next request, whole."""
        request = b""
        while b"\r\n\r\n" not in request:
            request += self._received()
        header, _, body = request.partition(b"\r\n\r\n")
        lengths = [line for line in header.lower().split(b"\r\n") if b"content-length:" in line]
        length = int(lengths[0].partition(b":")[2])
        while len(body) < length:
            body += self._received()
        self.requests.append(header + b"\r\n\r\n" + body)
        return self.requests[-1]

    def committed(self) -> bytes:
        """What the receiver answers to the next request: by then the job is in its queue."""
        request = self.request()
        with socket.create_connection(self.backend, timeout=PATIENCE) as upstream:
            upstream.sendall(request)
            return b"".join(iter(lambda: upstream.recv(65536), b""))

    def send(self, data: bytes) -> None:
        """Send this."""
        self.socket.sendall(data)

    def flood(self, piece: bytes, length: int) -> None:
        """Send a piece again and again, so many bytes of it, until the sender leaves."""
        while self.sent < length and not self.stopping.is_set():
            self.socket.sendall(piece)
            self.sent += len(piece)

    def drip(self, data: bytes) -> None:
        """Send a byte each 20 ms, until the sender leaves."""
        for byte in data:
            self.socket.sendall(bytes([byte]))
            if self.stopping.wait(0.02):
                return

    def hang(self) -> None:
        """Say nothing until the sender leaves."""
        while self.socket.recv(65536):
            pass

    def reset(self) -> None:
        """Have the end of the script reset the connection (``SO_LINGER`` of no time)."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _received(self) -> bytes:
        piece = self.socket.recv(65536)
        if not piece:
            raise ConnectionError("the sender has left")
        return piece


class Network:
    """Listens where senders think that the receiver is; each connection has a thread.

    Args:
        script: what becomes of a connection; its end closes it.
        backend: where the receiver really listens.

    Attributes:
        wires: the connections, in their order.
        requests: the requests that were read.
    """

    def __init__(self, script: Script, backend: Any) -> None:
        self.wires: list[Wire] = []
        self.requests: list[bytes] = []
        self._script, self._backend = script, backend
        self._stopping, self._last = Event(), None
        self._listener = socket.socket()
        self._listener.bind(LOOPBACK)
        self._threads: list[Thread] = []
        self.place = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.url = f"http://{self.place}"

    def listen(self) -> None:
        """Take connections; until then they are refused."""
        self._listener.listen()
        self._threads.append(Thread(target=self._accept))
        self._threads[0].start()

    def stop(self) -> None:
        """Have every connection that was made so far end; no other is taken."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        with socket.socket() as last:
            last.bind(LOOPBACK)
            self._last = last.getsockname()
            # Behind all that were made before it, which are taken first.
            last.connect(self._listener.getsockname())
            for thread in self._threads:
                thread.join(PATIENCE)
                assert not thread.is_alive()
        self._listener.close()

    def ids(self) -> set[str]:
        """The ids in the requests."""
        lines = [line for request in self.requests for line in request.split(b"\r\n")]
        fields = [line.decode().partition(": ") for line in lines]
        return {value for name, _, value in fields if name.lower() == "webhook-id"}

    def _accept(self) -> None:
        while True:
            connection, address = self._listener.accept()
            if address == self._last:
                connection.close()
                return
            connection.settimeout(PATIENCE)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.wires.append(Wire(connection, self._backend, self.requests, self._stopping))
            self._threads.append(Thread(target=self._run, args=(self.wires[-1],)))
            self._threads[-1].start()

    def _run(self, wire: Wire) -> None:
        with wire.socket, contextlib.suppress(OSError):  # the sender may leave at any time
            self._script(wire)


@dataclass(frozen=True, slots=True)
class Backend:
    """A receiver with its queue.

    Attributes:
        address: where it listens.
        database: the queue's file.
    """

    address: Any
    database: Path

    def ids(self) -> list[str]:
        """The ids of all that is in the queue."""
        with contextlib.closing(sqlite3.connect(self.database)) as database:
            return [row[0] for row in database.execute("SELECT id FROM job ORDER BY seq")]


@dataclass(slots=True)
class Pauses:
    """A clock whose time is real, and whose jitter is a fiftieth of what it may be.

    Attributes:
        taken: the pauses between tries, in seconds.
        during: is called before each pause, with its number.
    """

    taken: list[float] = field(default_factory=list)
    during: Callable[[int], object] = lambda number: None

    def clock(self) -> Clock:
        """What the delivery takes."""
        return Clock(sleep=self._sleep, uniform=lambda low, high: high / 50)

    def _sleep(self, seconds: float) -> None:
        self.taken.append(seconds)
        self.during(len(self.taken))
        time.sleep(seconds)


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Backend]:
    """A receiver that takes the job ``send-mail`` into a queue of its own."""
    database = tmp_path / "queue.sqlite3"
    queue = SQLiteQueue(database)
    queue.find_job("none")  # makes the tables
    registry = AliasRegistry({"send-mail": send_mail})
    app = create_app(Config(is_backend=True, secret=SECRET), queue=queue, registry=registry)
    server = Server(*LOOPBACK, app)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield Backend(server.server_address, database)
    server.shutdown()
    thread.join()
    server.server_close()
    server.drain(5)
    queue.close()


@pytest.fixture
def network(backend: Backend) -> Iterator[Callable[..., Network]]:
    """Starts networks in front of that receiver; they stop with the test."""
    started: list[Network] = []

    def start(script: Script, *, listening: bool = True) -> Network:
        started.append(Network(script, backend.address))
        if listening:
            started[-1].listen()
        return started[-1]

    yield start
    for each in started:
        each.stop()


@pytest.fixture(params=["urllib", "requests"])
def sender(request) -> Iterator[Sender]:
    """Each sender in turn."""
    if request.param == "urllib":
        made = UrllibSender()
    else:
        made = pytest.importorskip("dispatcher_http_sender.requests_sender").RequestsSender()
    with made:
        yield made


@pytest.fixture
def pauses() -> Pauses:
    """The pauses between the tries."""
    return Pauses()


@pytest.fixture
def dispatcher_to(sender: Sender, pauses: Pauses) -> Callable[..., Dispatcher]:
    """Makes a dispatcher that sends to a URL, by default with the default times."""

    def make(url: str, clock: Clock | None = None, **times: float) -> Dispatcher:
        dispatcher = Dispatcher(Config(url=url, secret=SECRET, **times), sender=sender)
        dispatcher._delivery().clock = clock or pauses.clock()
        return dispatcher

    return make


def send_mail(to: str) -> None:
    """A job."""
