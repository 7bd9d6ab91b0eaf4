"""Secrets change while jobs are being dispatched, by the steps of ``docs/security.md``."""

import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import permutations, product
from pathlib import Path

import pytest

from dispatcher_core import Config, Dispatcher, Result, SignatureError, Signer
from dispatcher_core.config import load_config

KEY = "DISPATCHER_BACKEND_SECRET"
PREVIOUS = "DISPATCHER_BACKEND_PREVIOUS_SECRETS"
OLD, NEW = "oldOldOLD1234567890abcdefXYZ", "newNewNEW1234567890abcdefXYZ"
NOW = 1_674_087_231
SENDERS = 4
ENV = f"""\
DISPATCHER_IS_BACKEND=true
DISPATCHER_MODULES=notes
DISPATCHER_QUEUE_URL=sqlite:///queue.sqlite3
{KEY}={OLD}
"""
JOBS = "from dispatcher_core import job\n\n\n@job('note')\ndef note(a):\n    return a\n"


def wait_until(condition: Callable[[], object]) -> None:
    """Return as soon as the condition holds; it must within a minute."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def environment() -> dict[str, str]:
    """That of this process, without settings of ours."""
    ours = ("DISPATCHER_", "APP_ENV")
    return {key: value for key, value in os.environ.items() if not key.startswith(ours)}


def rotate(folder: Path) -> str:
    """Rotate the secret of the folder's .env; the new one."""
    done = subprocess.run(
        [sys.executable, "-m", "dispatcher_core", "secret", "--rotate", "--yes", "--show"],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.strip()


@dataclass(frozen=True, slots=True)
class Server:
    """gunicorn with two workers, and the file that its output goes to."""

    process: subprocess.Popen
    output: Path

    def reload(self) -> None:
        """Reload gracefully, and wait until the workers from before have gone."""
        before = self._pids("Booting worker with pid: ") - self._pids("Worker exiting (pid: ")
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: before <= self._pids("Worker exiting (pid: "))

    def url(self) -> str:
        """Where it listens, once both workers have started."""
        wait_until(lambda: len(self._pids("Booting worker with pid: ")) == 2)
        return re.search(r"http://127\.0\.0\.1:\d+", self.output.read_text())[0]

    def _pids(self, said: str) -> set[str]:
        return set(re.findall(rf"{re.escape(said)}(\d+)", self.output.read_text()))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A receiver whose secret is in the .env of its folder."""
    (tmp_path / ".env").write_text(ENV)
    (tmp_path / "notes.py").write_text(JOBS)
    output = tmp_path / "gunicorn.log"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "gunicorn", "dispatcher_wsgi_receiver:create_app()"),
                *("--workers", "2", "--threads", "4", "--bind", "127.0.0.1:0"),
                "--no-control-socket",
            ],
            cwd=tmp_path,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Server(process, output)
    finally:
        process.terminate()
        try:
            process.wait(30)
        finally:
            process.kill()


@dataclass(slots=True)
class Sender:
    """An application that dispatches one job after the other."""

    url: str
    stop: threading.Event
    dispatcher: Dispatcher
    results: list[Result] = field(default_factory=list)

    def run(self) -> None:
        """Dispatch until told to stop."""
        while not self.stop.is_set():
            self.results.append(self.dispatcher.dispatch("note", {"a": 1}))

    def restart(self, secret: str) -> None:
        """Sign with this secret from now on; returns when that has been answered."""
        self.dispatcher = Dispatcher(Config(url=self.url, secret=secret, deadline=60))
        self.go_on()

    def go_on(self) -> None:
        """Wait for answers to more than what is under way."""
        enough = len(self.results) + 3
        wait_until(lambda: len(self.results) >= enough)


@pytest.fixture
def senders(server: Server) -> Iterator[list[Sender]]:
    """Senders at work, which have the old secret."""
    stop, config = threading.Event(), Config(url=server.url(), secret=OLD, deadline=60)
    senders = [Sender(config.url, stop, Dispatcher(config)) for _ in range(SENDERS)]
    threads = [threading.Thread(target=sender.run) for sender in senders]
    for thread in threads:
        thread.start()
    yield senders
    stop.set()
    for thread in threads:
        thread.join()


def test_no_request_is_refused_while_the_secret_is_rotated(server, senders, tmp_path):
    """Receivers first, then one sender after the other, then without the secret before."""
    for sender in senders:
        sender.go_on()
    new = rotate(tmp_path)
    server.reload()
    for sender in senders:
        sender.restart(new)
    remove_line(tmp_path / ".env", PREVIOUS)
    server.reload()
    for sender in senders:
        sender.go_on()
    senders[0].stop.set()
    results = [result for sender in senders for result in sender.results]
    assert [str(result.error) for result in results if result.failed] == []
    with closing(sqlite3.connect(tmp_path / "queue.sqlite3")) as database:
        ids = {row[0] for row in database.execute("SELECT id FROM job")}
    assert {result.id for result in results} <= ids
    url = senders[0].url
    refused = Dispatcher(Config(url=url, secret=OLD)).dispatch("note", {"a": 1})
    assert (refused.ok, refused.error.code) == (False, "bad-signature")


def remove_line(path: Path, key: str) -> None:
    """What a person does with an editor."""
    lines = path.read_text().splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(f"{key}=")]
    assert len(kept) == len(lines) - 1
    path.write_text("".join(kept))


@dataclass(frozen=True, slots=True)
class Host:
    """One host, whose processes have what was in its .env when they started last."""

    folder: Path
    loaded: dict[str, Signer] = field(default_factory=dict)

    def write(self, secret: str, previous: str = "") -> None:
        """Edit the .env by hand."""
        self.folder.mkdir(exist_ok=True)
        (self.folder / ".env").write_text(f"{KEY}={secret}\n{PREVIOUS}={previous}\n")

    def restart(self, role: str) -> None:
        """Start the processes of a role anew."""
        config = load_config({}, {}, self.folder)
        self.loaded[role] = Signer(config.require("secret"), config.previous_secrets)

    @property
    def written(self) -> Signer:
        """What a process that starts now would have."""
        config = load_config({}, {}, self.folder)
        return Signer(config.require("secret"), config.previous_secrets)


def refusals(hosts: list[Host]) -> int:
    """How many pairs of a sender, old or just started, and a receiver do not understand."""
    signers = [signer for host in hosts for signer in (host.loaded["sender"], host.written)]
    return sum(
        not accepts(host.loaded["receiver"], signer) for signer, host in product(signers, hosts)
    )


def accepts(receiver: Signer, sender: Signer) -> bool:
    """Whether what one signs verifies at the other."""
    signed = {
        "webhook-id": "a",
        "webhook-timestamp": str(NOW),
        "webhook-signature": sender.sign("a", NOW, b"x"),
    }
    try:
        receiver.verify(signed, b"x", NOW)
    except SignatureError:
        return False
    return True


@pytest.fixture
def hosts(tmp_path: Path) -> list[Host]:
    """Three hosts that dispatch to each other with one secret."""
    hosts = [Host(tmp_path / name) for name in "abc"]
    for host in hosts:
        host.write(OLD)
        host.restart("sender")
        host.restart("receiver")
    return hosts


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("roles", [("sender", "receiver"), ("receiver", "sender")])
def test_hosts_that_send_to_each_other_never_refuse(hosts, order, roles):
    """Accept the new one everywhere, sign with it everywhere, drop the old one everywhere."""
    for written in ((OLD, NEW), (NEW, OLD), (NEW, "")):
        for number in order:
            hosts[number].write(*written)
            assert refusals(hosts) == 0
            for role in roles:
                hosts[number].restart(role)
                assert refusals(hosts) == 0
    assert not accepts(hosts[0].loaded["receiver"], Signer(OLD))


def test_hosts_that_send_to_each_other_must_accept_first(hosts):
    """Who signs with the new secret at once is refused by those that do not know it yet."""
    hosts[0].write(NEW, OLD)
    hosts[0].restart("receiver")
    assert refusals(hosts) == 2
