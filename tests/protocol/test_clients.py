"""The clients of ``docs/protocol.md``, run as they are printed there against a real receiver.

Each is skipped where its interpreter is not installed. The one in JavaScript needs the package
``standardwebhooks`` too: ``NODE_MODULES`` names the folder that npm has put it in.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from dispatcher_core import Config, Dispatcher
from dispatcher_core.status import JobStatus

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text("utf-8")
CLIENTS = dict(re.findall(r"<!-- client: (\S+) -->\n```\w+\n(.*?)```", PAGE, re.DOTALL))
NODE_MODULES = Path(os.environ.get("NODE_MODULES", "no-such-folder"))

RAW = "kR7vZp2QmX9tLw4NcB6yHs8D"
WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
WRONG = "Jq3fWd8sTn5hVb2gMx7rKz4P"
PATIENCE = 60.0

PAYLOAD = {"text": 'Zoë\'s 🦊 says "no" to $HOME\n', "nested": {"empty": {}, "list": [1, 2.5]}}

JOBS = """
from dispatcher_core import job

@job("echo")
def echo(**payload: object) -> object:
    return payload
"""


@dataclass(frozen=True, slots=True)
class Backend:
    """A receiver that runs, and the folder of its application.

    Attributes:
        folder: where its settings and its queue are.
        environment: of its programs.
        url: where it answers.
    """

    folder: Path
    environment: dict[str, str]
    url: str

    def work(self) -> None:
        """Run all that is queued."""
        subprocess.run(
            dispatcher("work", "--burst", "--processes", "1"),
            cwd=self.folder,
            env=self.environment,
            check=True,
            capture_output=True,
            timeout=PATIENCE,
        )

    def status(self, id: str) -> JobStatus:
        """What Dispatcher itself is told of the job."""
        return Dispatcher(Config(url=self.url, secret=RAW, timeout=20, deadline=PATIENCE)).status(
            id
        )


@dataclass(frozen=True, slots=True)
class Client:
    """A client of the page, in a file.

    Attributes:
        command: how it is started.
    """

    command: tuple[str, ...]

    def dispatch(
        self, url: str, secret: str, job: str = "echo"
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        environment = {
            "PATH": os.environ["PATH"],
            "DISPATCHER_BACKEND_URL": url,
            "DISPATCHER_BACKEND_SECRET": secret,
        }
        return subprocess.run(
            (*self.command, job, json.dumps(PAYLOAD, ensure_ascii=False)),
            env=environment,
            capture_output=True,
            encoding="utf-8",
            timeout=PATIENCE,
        )


class BadWay(ThreadingHTTPServer):
    """Hands requests on to a receiver, but has trouble with the first.

    Args:
        url: the receiver.
        trouble: ``lost`` loses the answer; ``busy`` and ``moved`` answer in its place.
    """

    def __init__(self, url: str, trouble: str) -> None:
        super().__init__(("127.0.0.1", 0), BadWayHandler)
        self.receiver = urlsplit(url).netloc
        self.trouble = trouble
        self.times: list[float] = []
        self.answers: list[tuple[int, dict]] = []

    @property
    def url(self) -> str:
        """Where it can be reached."""
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def answer_in_place(self) -> tuple[int, str, str] | None:
        """The status, and a header field, of what it answers by itself, if it does so now."""
        if len(self.times) > 1:
            return None
        moved = (302, "Location", f"http://{self.receiver}/dispatch")
        return {"busy": (503, "Retry-After", "1"), "moved": moved}.get(self.trouble)


class BadWayHandler(BaseHTTPRequestHandler):
    """One connection to it."""

    server: BadWay

    def do_GET(self) -> None:
        """Ask for a status."""
        self.hand_on()

    def do_POST(self) -> None:
        """Dispatch."""
        self.hand_on()

    def hand_on(self) -> None:
        """Hand the request on, and the answer back, unless there is trouble."""
        self.server.times.append(time.monotonic())
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        in_place = self.server.answer_in_place
        if in_place:
            status, *field = in_place
            self.answer(status, b"<p>It is not me", *field)
            return
        with closing(HTTPConnection(self.server.receiver, timeout=PATIENCE)) as connection:
            connection.request(self.command, self.path, body or None, dict(self.headers))
            answer = connection.getresponse()
            content = answer.read()
        self.server.answers.append((answer.status, json.loads(content)))
        if self.server.trouble != "lost" or len(self.server.times) > 1:
            self.answer(answer.status, content, "Content-Type", "application/json")

    def answer(self, status: int, content: bytes, *field: str) -> None:
        """Answer the client."""
        self.send_response(status)
        self.send_header(*field)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def dispatcher(*arguments: str) -> tuple[str, ...]:
    """The command line of ``dispatcher``."""
    return sys.executable, "-m", "dispatcher_core", *arguments


@contextmanager
def served(folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """A receiver that runs while the block does; where it answers."""
    output = folder / "serve.log"
    with output.open("wb") as file:
        process = subprocess.Popen(
            dispatcher("serve", "--port", "0"),
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while not (match := re.search(r"listening on (\S+)\n", output.read_text())):
            assert process.poll() is None and time.monotonic() < deadline, output.read_text()
            time.sleep(0.02)
        yield match[1]
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """A receiver with a SQLite queue that knows one job, and two secrets, one of each form."""
    folder = tmp_path_factory.mktemp("backend")
    (folder / "echo_jobs.py").write_text(JOBS)
    inherited = {name: value for name, value in os.environ.items() if "DISPATCHER" not in name}
    environment = {
        **inherited,
        "DISPATCHER_IS_BACKEND": "true",
        "DISPATCHER_MODULES": "echo_jobs",
        "DISPATCHER_BACKEND_SECRET": RAW,
        "DISPATCHER_BACKEND_PREVIOUS_SECRETS": WHSEC,
    }
    with served(folder, environment) as url:
        yield Backend(folder, environment, url)


@pytest.fixture
def bad_way(request: pytest.FixtureRequest, backend: Backend) -> Iterator[BadWay]:
    """A way to the receiver that has the trouble of the parameter."""
    with BadWay(backend.url, request.param) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(params=sorted(CLIENTS))
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Client:
    """Each client of the page, if this machine has what it needs."""
    name = request.param
    needed = {"sh": ("sh", "openssl", "curl"), "mjs": ("node",), "php": ("php",)}
    programs = needed[name.rpartition(".")[2]]
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    if programs == ("node",):
        if not (NODE_MODULES / "standardwebhooks").is_dir():
            pytest.skip("NODE_MODULES names no folder with the npm package standardwebhooks")
        (tmp_path / "node_modules").symlink_to(NODE_MODULES.resolve())
    (tmp_path / name).write_text(CLIENTS[name], encoding="utf-8")
    return Client((programs[0], str(tmp_path / name)))


def test_the_page_has_short_clients_in_three_languages() -> None:
    """Shell, JavaScript and PHP, in at most 30 lines each."""
    assert sorted(CLIENTS) == ["dispatch.mjs", "dispatch.php", "dispatch.sh"]
    assert all(len(text.splitlines()) <= 30 for text in CLIENTS.values())


@pytest.mark.parametrize("secret", [RAW, WHSEC], ids=["raw", "whsec"])
def test_a_client_dispatches_a_job(client: Client, backend: Backend, secret: str) -> None:
    """The job is queued, its status is printed, and it runs with the payload that was given."""
    run = client.dispatch(backend.url, secret)
    assert run.returncode == 0, run.stderr
    printed = json.loads(run.stdout)
    assert (printed["job"], printed["queue"], printed["state"]) == ("echo", "default", "queued")
    backend.work()
    status = backend.status(printed["id"])
    assert (status.state, status.result) == ("succeeded", PAYLOAD)


@pytest.mark.parametrize("bad_way", ["lost"], indirect=True)
def test_a_lost_answer_enqueues_nothing_twice(client: Client, bad_way: BadWay) -> None:
    """A client that got no answer sends the job again under its id, which is known already."""
    run = client.dispatch(bad_way.url, RAW)
    assert run.returncode == 0, run.stderr
    (first, accepted), (second, known) = bad_way.answers[:2]
    assert (first, second) == (202, 200)
    assert known == {**accepted, "duplicate": True}
    assert json.loads(run.stdout)["id"] == accepted["id"]


@pytest.mark.parametrize("bad_way", ["busy"], indirect=True)
def test_a_client_waits_for_as_long_as_it_is_asked_to(client: Client, bad_way: BadWay) -> None:
    """After 503 with Retry-After the same job is sent again, not before the time."""
    run = client.dispatch(bad_way.url, RAW)
    assert run.returncode == 0, run.stderr
    assert bad_way.answers[0][0] == 202
    assert bad_way.times[1] - bad_way.times[0] > 0.95  # timers may be early by milliseconds


@pytest.mark.parametrize("bad_way", ["moved"], indirect=True)
def test_a_client_follows_no_redirect(client: Client, bad_way: BadWay) -> None:
    """A redirect is a refusal: what is signed for one place goes to no other."""
    run = client.dispatch(bad_way.url, RAW)
    assert (run.returncode, run.stdout) == (1, "")
    assert "POST /dispatch: 302" in run.stderr
    assert (len(bad_way.times), bad_way.answers) == (1, [])


@pytest.mark.parametrize(
    ("secret", "job", "problem"),
    [(WRONG, "echo", (401, "bad-signature")), (RAW, "no-such-job", (422, "unknown-job"))],
    ids=["wrong-secret", "unknown-job"],
)
def test_a_refusal_is_shown(
    client: Client, backend: Backend, secret: str, job: str, problem: tuple[int, str]
) -> None:
    """A client that is refused says how, prints no status, and ends with exit code 1."""
    run = client.dispatch(backend.url, secret, job)
    assert (run.returncode, run.stdout) == (1, "")
    status, document = re.search(r"POST /dispatch: (\d+) (\{.*\})\n", run.stderr).groups()
    assert (int(status), json.loads(document)["code"]) == problem
