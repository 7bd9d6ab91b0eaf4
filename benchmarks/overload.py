"""How long dispatches take when 64 clients send them at once: the slowest against the median.

Run from the repository's root: ``.venv/bin/python benchmarks/overload.py [PART]...``; the parts
are the functions below without their ``part_``. Exit status 1 when a goal is missed.
"""

import re
import selectors
import socket
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import urlsplit

from batch import together
from measuring import ROUNDS, Table, folder, percentile, run
from programs import SECRET, served

from dispatcher_core import Config, Dispatcher, Signer
from dispatcher_core.names import new_id

CLIENTS = 64
SECONDS = 4.0
GOAL = 20
BODY = b'{"type":"dispatch","job":"noop","payload":{"number":1,"text":"%s"}}' % (b"x" * 170)


def part_threads(table: Table) -> None:
    """64 threads of one program, which share a Dispatcher and its kept connections."""
    table.title(f"{CLIENTS} threads with a Dispatcher, gunicorn with 2 processes of 4 threads")
    with backend() as url:
        dispatcher = Dispatcher(Config(url=url, secret=SECRET, timeout=30, deadline=30))
        report(table, [threads_round(dispatcher) for _ in range(ROUNDS)])


def part_kept(table: Table) -> None:
    """64 kept connections of a program that does nothing else."""
    table.title(f"{CLIENTS} kept connections, one thread that sends and waits")
    with backend() as url:
        report(table, [connections_round(url, kept=True) for _ in range(ROUNDS)])


def part_fresh(table: Table) -> None:
    """64 clients that make a connection for each request."""
    table.title(f"{CLIENTS} clients, a connection for each request")
    with backend() as url:
        report(table, [connections_round(url, kept=False) for _ in range(ROUNDS)])


@dataclass(slots=True)
class Load:
    """What the clients of one round have seen.

    Attributes:
        waits: of each client, the seconds that each of its requests took.
    """

    waits: list[list[float]] = field(default_factory=lambda: [[] for _ in range(CLIENTS)])

    @property
    def all(self) -> list[float]:
        return [wait for client in self.waits for wait in client]

    @property
    def median(self) -> float:
        return statistics.median(self.all)

    @property
    def p99(self) -> float:
        return percentile(self.all, 0.99)

    @property
    def share(self) -> float:
        """How many requests the client with the fewest had, against the one with the most.

        A kept connection stays with the process that accepted it: where one process has 57 of
        them and the other 7, the 7 are served eight times as often.
        """
        counts = [len(client) for client in self.waits]
        return min(counts) / max(counts)


def report(table: Table, rounds: list[Load]) -> None:
    """The median round, and the longest wait of all."""
    middle = sorted(rounds, key=lambda load: load.p99 / load.median)[len(rounds) // 2]
    table.row("dispatches", f"{len(middle.all) / SECONDS:,.0f}/s")
    table.row("median", f"{middle.median * 1000:.1f} ms")
    table.row("p99", f"{middle.p99 * 1000:.1f} ms")
    ratio = middle.p99 / middle.median
    table.row("p99 / median", f"{ratio:.1f}", goal=f"at most {GOAL}", met=ratio <= GOAL)
    table.row("longest", f"{max(wait for load in rounds for wait in load.all) * 1000:.0f} ms")
    table.row("fewest requests of a client / most", f"{middle.share:.2f}")


@contextmanager
def backend() -> Iterator[str]:
    """The URL of a receiver under gunicorn."""
    with folder() as place, served(place) as url:
        yield url


def threads_round(dispatcher: Dispatcher) -> Load:
    """The threads dispatch one job after the other for a while."""
    load = Load()
    end = time.perf_counter() + SECONDS

    def dispatch_on(waits: list[float]) -> None:
        while (begun := time.perf_counter()) < end:
            dispatcher.dispatch("noop", {"number": 1, "text": "x" * 170}).raise_for_error()
            waits.append(time.perf_counter() - begun)

    together([lambda waits=waits: dispatch_on(waits) for waits in load.waits])
    return load


def connections_round(url: str, *, kept: bool) -> Load:
    """As many connections carry one request after the other for a while."""
    load = Load()
    with selectors.DefaultSelector() as selector:
        for waits in load.waits:
            Client(url, selector, waits, kept=kept).send()
        end = time.perf_counter() + SECONDS
        while selector.get_map():
            for key, _ in selector.select():
                client: Client = key.data
                if client.has_answer():
                    client.send() if time.perf_counter() < end else client.close()
    return load


class Client:
    """Sends a request when told, and knows when its answer has come.

    Args:
        url: where the receiver is.
        selector: tells when there is something to read.
        waits: where the seconds that each request took are kept.
        kept: whether one connection carries all requests.
    """

    def __init__(
        self, url: str, selector: selectors.BaseSelector, waits: list[float], *, kept: bool
    ) -> None:
        self._host = urlsplit(url).netloc
        self._selector = selector
        self._waits = waits
        self._kept = kept
        self._signer = Signer(SECRET)
        self._connection: socket.socket | None = None

    def send(self) -> None:
        """Send the next request."""
        self._begun = time.perf_counter()
        self._received = b""
        if self._connection is None:
            host, port = self._host.split(":")
            self._connection = socket.create_connection((host, int(port)))
            self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._selector.register(self._connection, selectors.EVENT_READ, self)
        self._connection.sendall(self._request())

    def has_answer(self) -> bool:
        """Read what has come; whether it is the whole answer, which must say 202."""
        assert self._connection is not None
        self._received += self._connection.recv(65536)
        head, end, body = self._received.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        if not end or length is None or len(body) < int(length[1]):
            return False
        assert head.split()[1] == b"%d" % HTTPStatus.ACCEPTED, head
        self._waits.append(time.perf_counter() - self._begun)
        self._selector.unregister(self._connection)
        if not self._kept or b"connection: close" in head.lower():
            self.close()
        return True

    def close(self) -> None:
        """Close the connection, where there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _request(self) -> bytes:
        id, now = new_id(), int(time.time())
        fields = {
            "Host": self._host,
            "Content-Type": "application/json",
            "Content-Length": len(BODY),
            "Connection": "keep-alive" if self._kept else "close",
            "webhook-id": id,
            "webhook-timestamp": now,
            "webhook-signature": self._signer.sign(id, now, BODY),
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"POST /dispatch HTTP/1.1\r\n{lines}\r\n".encode() + BODY


if __name__ == "__main__":
    sys.exit(run(globals()))
