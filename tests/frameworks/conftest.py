"""Applications made of the files in ``docs/frameworks.md``, served and run by real programs."""

import json
import os
import re
import socket
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from dispatcher_core import Config, Dispatcher, JobStatus

PAGE = Path(__file__).parents[2] / "docs" / "frameworks.md"
SECRET = "A1b2" * 16
PATIENCE = 60.0
# A program may take long to start where many tests run: requests wait for it.
TIMES = {"timeout": 20.0, "deadline": PATIENCE}

# A code block whose first line is a comment with the name of a file.
NAMED_BLOCK = re.compile(r"^```\w+\n# (\S+\.\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Program:
    """A program that runs, and the file that its output goes to."""

    process: subprocess.Popen
    output: Path

    def wait_for(self, pattern: str) -> re.Match:
        """The first match of the pattern in what it printed."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            ended = self.process.poll() is not None
            found = re.search(pattern, self.output.read_text())
            if found:
                return found
            assert not ended, self.output.read_text()
            time.sleep(0.02)
        raise AssertionError(f"no {pattern!r} in: {self.output.read_text()}")

    def stop(self) -> int:
        """Ask it to stop; its exit code."""
        self.process.terminate()
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            self.process.wait()


@dataclass(frozen=True, slots=True)
class Site:
    """A small application that sends jobs to itself, by way of a real server.

    Attributes:
        folder: where its files are.
        environment: the environment of its programs.
        listener: what gunicorn listens on, so that its address is known before it starts.
        url: where gunicorn answers.
        programs: those that were started.
    """

    folder: Path
    environment: dict[str, str]
    listener: socket.socket
    url: str
    programs: list[Program] = field(default_factory=list)

    def write(self, name: str, text: str) -> None:
        """Write a file of the application."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def write_section(self, title: str) -> None:
        """Write the files that a section of the page names."""
        (section,) = re.findall(
            rf"^## {title}\b.*?(?=^## |\Z)",
            PAGE.read_text(encoding="utf-8"),
            re.MULTILINE | re.DOTALL,
        )
        for name, text in NAMED_BLOCK.findall(section):
            self.write(name, text)

    def run(self, *command: str) -> subprocess.CompletedProcess:
        """Run a program to its end."""
        return subprocess.run(
            self._found(command),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    def start(self, *command: str, inherits: Sequence[int] = ()) -> Program:
        """Start a program that stops with the test."""
        output = self.folder / f"output-{len(self.programs)}.txt"
        with output.open("w") as stream:
            process = subprocess.Popen(
                self._found(command),
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                pass_fds=inherits,
            )
        self.programs.append(Program(process, output))
        return self.programs[-1]

    def serve(self, *arguments: str) -> None:
        """Start gunicorn. Requests may come before it is up: its socket listens already."""
        socket = self.listener.fileno()
        options = ["--bind", f"fd://{socket}", "--no-control-socket"]
        self.start("gunicorn", *options, *arguments, inherits=[socket])
        self.listener.close()  # else requests to a gunicorn that has died would wait

    def work(self) -> None:
        """Start one worker process."""
        self.start("dispatcher", "work", "--processes", "1")

    def post(self, path: str, **form: str) -> tuple[int, str]:
        """The status and the body of what the application answers to a form."""
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=PATIENCE)
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", path, urlencode(form), headers)
        with closing(connection), connection.getresponse() as answer:
            return answer.status, answer.read().decode()

    def ended(self, id: str) -> JobStatus:
        """The job's status once it has ended."""
        return self.dispatcher().wait(id, timeout=PATIENCE)

    def run_by_post(self, path: str, **form: str) -> JobStatus:
        """Have the application dispatch a job; its status once it has ended."""
        status, answer = self.post(path, **form)
        assert status == 202, answer
        return self.ended(json.loads(answer)["id"])

    def run_job(self, name: str, **payload: object) -> JobStatus:
        """Dispatch a job from here; its status once it has ended."""
        result = self.dispatcher().dispatch(name, payload).raise_for_error()
        return self.ended(result.id)

    def dispatcher(self) -> Dispatcher:
        """A dispatcher that sends to the application, over HTTP."""
        url = self.environment["DISPATCHER_BACKEND_URL"]
        return Dispatcher(Config(url=url, secret=SECRET, **TIMES))

    def _found(self, command: tuple[str, ...]) -> list[str]:
        return [str(Path(sysconfig.get_path("scripts"), command[0])), *command[1:]]


def quiet_environment() -> dict[str, str]:
    """The environment without what would change how the programs behave."""
    ours = re.compile(r"(DISPATCHER|DJANGO|FLASK|GUNICORN|PYTEST|PYTHON|APP_ENV)")
    return {name: value for name, value in os.environ.items() if not ours.match(name)}


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[[str], Site]]:
    """Makes the application of a section of the page; its programs stop with the test."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sites: list[Site] = []

        def make(section: str, **environment: str) -> Site:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            site = Site(tmp_path, quiet_environment() | environment, listener, url)
            site.environment["DISPATCHER_BACKEND_SECRET"] = SECRET
            site.environment["DISPATCHER_BACKEND_URL"] = f"{url}/dispatcher"
            site.write_section(section)
            sites.append(site)
            return site

        yield make
        programs = [program for site in sites for program in reversed(site.programs)]
        codes = [program.stop() for program in programs]
        for program in programs:
            print(program.process.args, program.output.read_text(), sep="\n")
        assert codes == [0] * len(codes)
