"""The receiver under every server that ``docs/deploy.md`` names, made of that page's own text.

A server is started once for all tests that run in this process. It starts with a queue that
cannot be used, to see what it answers then, and whether it recovers when the queue does.
"""

import http.client
import json
import os
import re
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from dispatcher_core import Config, Dispatcher
from dispatcher_core.signing import Signer, signed_path
from dispatcher_http_sender import UrllibSender

DOCS = Path(__file__).parents[2] / "docs"
SECRET = "A1b2" * 16
PATIENCE = 60.0
MAX_QUEUED = 3000  # more than all tests together leave waiting there, twice

# The first line of a block names the file that it is.
FILE = re.compile(r"^```\w+\n# ([\w./-]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^<!-- serve: (\S+) -->\n```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)

JOBS = """
from dispatcher_core import job


@job("send-mail")
def send_mail(to: str, subject: str = "") -> str:
    return f"sent to {to}"
"""

DJANGO_SETTINGS = """
SECRET_KEY = "only for these tests"
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "website.urls"
"""

# What the page's file is included in. Of a user it hears only where root runs the tests: then its
# processes shall be able to write to the folder all the same.
NGINX = """
user root;
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{servers}
}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One way to serve the receiver.

    Attributes:
        name: what the tests call it.
        command: the name of its command in the page, where that is another one.
        announces: how it tells its port.
        section: the section of ``docs/frameworks.md`` whose application it serves.
        keeps_connections: whether a connection serves more than one request.
        opens_queue: whether it does not even start without a queue that can be used.
        mends: the odd requests that it may take, since it reads them as what was signed.
        stalled: what ends a body that does not come: the code of the answer, ``closed``, or, where
            it costs a thread of the server at most, ``waits``.
        proxy: what nginx in front of it does with the bodies of requests, None for no nginx.
        stops_on: the signal that ends it neatly.
        everywhere: whether it is tried wherever the tests run, else only where all are.
    """

    name: str
    command: str = ""
    announces: str = r"Listening at: http://127\.0\.0\.1:(\d+)"
    section: str = ""
    keeps_connections: bool = True
    opens_queue: bool = False
    mends: frozenset[str] = frozenset()
    stalled: str = "timeout"
    proxy: str | None = None
    stops_on: signal.Signals = signal.SIGTERM
    everywhere: bool = False

    @property
    def prefix(self) -> str:
        """The path that the receiver is at."""
        return "/dispatcher" if self.section or self.proxy else ""


# Paths, lengths and bodies that a server puts right before the receiver sees them.
DOTS = frozenset({"/x/../dispatch"})
SLASHES = frozenset({"//dispatch"})
CHUNKS = frozenset({"chunked"})

DEPLOYMENTS = [
    Deployment(
        name="serve",
        announces=r"listening on http://\S+:(\d+)",
        keeps_connections=False,
        opens_queue=True,
        mends=SLASHES,
        everywhere=True,
    ),
    Deployment(name="gunicorn", everywhere=True),
    Deployment(name="gunicorn-sync", keeps_connections=False),
    Deployment(
        name="waitress",
        announces=r"Serving on http://\S+:(\d+)",
        mends=SLASHES | CHUNKS | {"with-chunks", "folded"},
        stalled="waits",
        stops_on=signal.SIGINT,
        everywhere=True,
    ),
    Deployment(
        name="uwsgi",
        announces=r"bound to TCP address 127\.0\.0\.1:(\d+)",
        keeps_connections=False,
        mends=DOTS,
        stalled="malformed",
    ),
    Deployment(name="fastapi", section="FastAPI", stalled="waits", everywhere=True),
    Deployment(
        name="uvicorn",
        announces=r"running on http://\S+:(\d+)",
        section="FastAPI",
        stalled="waits",
    ),
    Deployment(name="django", section="Django"),
    Deployment(name="flask", section="Flask"),
    Deployment(
        name="nginx",
        command="gunicorn",
        mends=DOTS | CHUNKS,
        stalled="closed",
        proxy="on",
    ),
    Deployment(
        name="nginx-unbuffered",
        command="gunicorn",
        mends=DOTS | CHUNKS,
        proxy="off",
        stalled="timeout or closed",  # nginx gives a client ten seconds too, and then closes
    ),
]
ALL = os.environ.get("SERVERS") == "all"


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


@dataclass(frozen=True, slots=True)
class Program:
    """A program that runs, and the file that its output goes to."""

    process: subprocess.Popen
    output: Path

    def wait_for(self, pattern: str) -> str:
        """The first group of the first match in what it printed."""
        deadline = time.monotonic() + PATIENCE
        while (found := re.search(pattern, self.output.read_text())) is None:
            assert self.process.poll() is None, self.output.read_text()
            assert time.monotonic() < deadline, self.output.read_text()
            time.sleep(0.02)
        return found[1]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, and KILL where it is not heeded; the exit code."""
        self.process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            return self.process.wait(PATIENCE)
        self.process.kill()
        return self.process.wait()


@dataclass(slots=True)
class Place:
    """A folder with an application and its programs."""

    folder: Path
    environment: dict[str, str]
    programs: list[Program] = field(default_factory=list)

    def write(self, name: str, text: str) -> None:
        """Write a file; the port that the page names becomes a free one."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(on_free_port(text), encoding="utf-8")

    def write_files(self, page: str) -> None:
        """Write the files that a page names."""
        for name, text in FILE.findall(page):
            self.write(name, text)

    def start(self, command: Sequence[str], inherits: Sequence[int] = (), **more: str) -> Program:
        """Start a program, given as it is typed; leading assignments are its environment."""
        settings = dict(word.split("=", 1) for word in command if re.match(r"[A-Z_]+=", word))
        name, *arguments = command[len(settings) :]
        output = self.folder / f"output-{len(self.programs)}.txt"
        with output.open("w") as stream:
            process = subprocess.Popen(
                [found_program(name), *arguments],
                cwd=self.folder,
                env=self.environment | settings | more,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                pass_fds=inherits,
            )
        self.programs.append(Program(process, output))
        return self.programs[-1]

    def run(self, command: Sequence[str], **more: str) -> subprocess.CompletedProcess:
        """Run a program to its end."""
        name, *arguments = command
        return subprocess.run(
            [found_program(name), *arguments],
            cwd=self.folder,
            env=self.environment | more,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )


@dataclass(frozen=True, slots=True)
class Server:
    """A receiver that can be reached.

    Attributes:
        deployment: how it is served.
        url: where it is, its prefix included.
        certificate: the file with the certificate to trust, empty where it has none.
        while_broken: what it answered to a dispatch before its queue could be used, by the code
            that it was to answer with.
        max_queued: how many jobs may wait there.
    """

    deployment: Deployment
    url: str
    certificate: str = ""
    while_broken: dict[str, Reply] = field(default_factory=dict)
    max_queued: int = MAX_QUEUED

    @property
    def prefix(self) -> str:
        """The path that the receiver is at."""
        return self.deployment.prefix

    def connect(self) -> http.client.HTTPConnection:
        """A connection that can be kept."""
        place = urlsplit(self.url)
        if not self.certificate:
            return http.client.HTTPConnection(place.hostname, place.port, timeout=PATIENCE)
        context = ssl.create_default_context(cafile=self.certificate)
        return http.client.HTTPSConnection(
            place.hostname, place.port, timeout=PATIENCE, context=context
        )

    def headers(
        self, id: str, content: bytes, *, age: int = 0, secret: str = SECRET
    ) -> dict[str, str]:
        """The headers of a request that was signed so many seconds ago."""
        timestamp = int(time.time()) - age
        return {
            "content-type": "application/json",
            "webhook-id": id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": Signer(secret).sign(id, timestamp, content),
        }

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping = {}
    ) -> Reply:
        """One request over a connection of its own."""
        with closing(self.connect()) as connection:
            with suppress(BrokenPipeError, ConnectionResetError):  # its answer says why
                connection.request(method, self.prefix + path, body, dict(headers))
            return reply_of(connection.getresponse())

    def signed(self, method: str, path: str, body: bytes | None = None, id: str = "x") -> Reply:
        """One signed request."""
        content = signed_path(method, path) if body is None else body
        return self.request(method, path, body, self.headers(id, content))

    def open_socket(self) -> socket.socket:
        """A socket to it."""
        connection = self.connect()
        connection.connect()
        return connection.sock

    def exchange(self, data: bytes, method: str = "POST") -> Reply | None:
        """What it answers to these bytes; None where it closes without a word."""
        with self.open_socket() as connection:
            with suppress(OSError):  # it may refuse before it has read all
                connection.sendall(data)
            return self.answer_on(connection, method)

    def answer_on(self, connection: socket.socket, method: str = "POST") -> Reply | None:
        """The next answer on a socket; None where it is closed without a word."""
        answer = http.client.HTTPResponse(connection, method=method)
        try:
            answer.begin()
            return reply_of(answer)
        except (http.client.RemoteDisconnected, ConnectionError):
            return None
        finally:
            answer.close()

    def knows(self, id: str) -> bool:
        """Whether a job of this id was queued."""
        reply = self.signed("GET", f"/jobs/{id}")
        assert reply.status in (200, 404), reply
        return reply.status == 200

    @contextmanager
    def dispatcher(self) -> Iterator[Dispatcher]:
        """A dispatcher that sends to it; it leaves no connection open."""
        with closing(UrllibSender()) as sender:
            config = Config(url=self.url, secret=SECRET, timeout=20, deadline=PATIENCE)
            yield Dispatcher(config, sender=sender)


def reply_of(answer: http.client.HTTPResponse) -> Reply:
    """The answer, read to its end."""
    fields = {name.lower(): value for name, value in answer.getheaders()}
    return Reply(answer.status, fields, answer.read())


def on_free_port(text: str) -> str:
    """A text of the page in which a server listens on a port that is free."""
    local = text.replace("0.0.0.0:8000", "127.0.0.1:8000")
    return re.sub(r"(127\.0\.0\.1:|--port )8000", r"\g<1>0", local)


def found_program(name: str) -> str:
    """The path of a program of this environment or of the system; skips where it is absent."""
    scripts = sysconfig.get_path("scripts")
    found = shutil.which(name, path=os.pathsep.join([scripts, os.defpath, "/usr/sbin"]))
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def page(name: str) -> str:
    """The text of a page of the documentation."""
    return (DOCS / name).read_text(encoding="utf-8")


def section(title: str) -> str:
    """A section of the page about frameworks."""
    pattern = rf"^## {title}\b.*?(?=^## |\Z)"
    return re.findall(pattern, page("frameworks.md"), re.MULTILINE | re.DOTALL)[0]


def command_line(name: str) -> list[str]:
    """A command of the page about deployment."""
    text = dict(COMMAND.findall(page("deploy.md")))[name]
    return shlex.split(on_free_port(text.replace("\\\n", " ")))


def quiet_environment() -> dict[str, str]:
    """The environment without what would change how the programs behave."""
    ours = re.compile(r"(DISPATCHER|DJANGO|FLASK|GUNICORN|PYTEST|PYTHON|APP_ENV|SCRIPT_NAME)")
    return {name: value for name, value in os.environ.items() if not ours.match(name)}


def make_place(folder: Path) -> Place:
    """A folder with the files of the page, and with the job ``send-mail``."""
    (folder / "secret").write_text(SECRET + "\n")
    settings = {
        "DISPATCHER_BACKEND_SECRET_FILE": str(folder / "secret"),
        "DISPATCHER_QUEUE_URL": f"sqlite:///{folder / 'queue.sqlite3'}",
        "DISPATCHER_MAX_QUEUED": str(MAX_QUEUED),
    }
    place = Place(folder, quiet_environment() | settings)
    place.write_files(page("deploy.md"))
    place.write("jobs.py", JOBS)
    return place


def add_application(place: Place, title: str) -> None:
    """Add the application of a section of the page about frameworks."""
    place.write_files(section(title))
    place.write("shop/__init__.py", "")
    place.write("website/settings.py", DJANGO_SETTINGS)
    place.write("website/urls.py", "urlpatterns = []\n")
    place.environment["DISPATCHER_MODULES"] = "jobs"
    place.environment["DJANGO_SETTINGS_MODULE"] = "website.settings"
    place.environment["PRICES_URL"] = "http://127.0.0.1:9"  # where nothing is asked for


def make_certificate(folder: Path) -> None:
    """Make a certificate for this machine in ``tls.pem``, its key in ``tls.key``."""
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [found_program("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         *names, "-out", str(folder / "tls.pem"), "-keyout", str(folder / "tls.key")],
        check=True,
        capture_output=True,
    )  # fmt: skip


def start_nginx(place: Place, backend: str, buffering: str) -> str:
    """Start nginx in front of a server; where it listens."""
    make_certificate(place.folder)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        changes = {
            "server 127.0.0.1:8000": f"server {backend}",
            "listen 443 ssl": f"listen {address} ssl",
            "/etc/ssl/app-b": str(place.folder / "tls"),
            "proxy_request_buffering on": f"proxy_request_buffering {buffering}",
        }
        text = dict(FILE.findall(page("deploy.md")))["nginx.conf"]
        for old, new in changes.items():
            assert old in text, f"{old!r} is not in the page"
            text = text.replace(old, new)
        (place.folder / "nginx.conf").write_text(NGINX.format(folder=place.folder, servers=text))
        options = ["-e", "stderr", "-p", str(place.folder), "-c", str(place.folder / "nginx.conf")]
        # A listener that is handed over this way is used for the address that it has.
        number = listener.fileno()
        place.start(["nginx", *options], inherits=[number], NGINX=f"{number};")
    return address


def start_server(place: Place, deployment: Deployment) -> Server:
    """Start what a deployment consists of."""
    if deployment.section:
        add_application(place, deployment.section)
    backend = place.start(command_line(deployment.command or deployment.name))
    address = f"127.0.0.1:{backend.wait_for(deployment.announces)}"
    if deployment.proxy is None:
        return Server(deployment, f"http://{address}{deployment.prefix}")
    address = start_nginx(place, address, deployment.proxy)
    certificate = str(place.folder / "tls.pem")
    return Server(deployment, f"https://{address}{deployment.prefix}", certificate)


def try_without_queue(place: Place, server: Server) -> None:
    """Dispatch while the queue's file is a folder, and while it is no database."""
    path = place.folder / "queue.sqlite3"
    if server.deployment.opens_queue:
        for name in ("", "-wal", "-shm"):
            path.with_name(path.name + name).unlink(missing_ok=True)
        path.mkdir()
    body = b'{"type":"dispatch","job":"send-mail","payload":{"to":"ann"}}'
    server.while_broken["unavailable"] = server.signed("POST", "/dispatch", body, "early-1")
    path.rmdir()
    path.write_bytes(b"this is no database" * 100)
    server.while_broken["internal"] = server.signed("POST", "/dispatch", body, "early-2")
    path.unlink()


@pytest.fixture
def place(tmp_path) -> Iterator[Place]:
    """A folder with the files of the page; programs that still run there end with the test."""
    made = make_place(tmp_path)
    yield made
    for program in made.programs:
        program.process.kill()
        program.process.wait()


@pytest.fixture
def untried() -> set[str]:
    """The commands of the page that no server here is started with."""
    tried = {deployment.command or deployment.name for deployment in DEPLOYMENTS}
    return {name for name, _ in COMMAND.findall(page("deploy.md"))} - tried


@pytest.fixture
def reach() -> Callable[[str], Server]:
    """What a URL leads to."""
    return lambda url: Server(Deployment(name="elsewhere"), url)


@pytest.fixture(
    scope="session",
    params=[deployment for deployment in DEPLOYMENTS if ALL or deployment.everywhere],
    ids=lambda deployment: deployment.name,
)
def server(request, tmp_path_factory) -> Iterator[Server]:
    """Each server in turn; it ends neatly when it is asked to, once its tests are done."""
    place = make_place(tmp_path_factory.mktemp(request.param.name))
    if not request.param.opens_queue:
        (place.folder / "queue.sqlite3").mkdir()
    try:
        started = start_server(place, request.param)
        try_without_queue(place, started)
        yield started
    finally:
        number = request.param.stops_on
        codes = [program.stop(number) for program in reversed(place.programs)]
        for program in place.programs:
            print(program.process.args, program.output.read_text(), sep="\n")
    # Some end themselves by the signal, once they are done.
    assert all(code in (0, -number) for code in codes), codes
