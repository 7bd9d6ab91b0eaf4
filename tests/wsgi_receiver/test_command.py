"""``dispatcher serve`` as a program."""

import contextlib
import ctypes
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dispatcher_core.cli import main

BODY = b'{"type":"dispatch","job":"send-mail","payload":{"to":"ann-at-home"}}'
READY = r"listening on http://127\.0\.0\.1:(\d+)\n"


@pytest.fixture
def fails(backend, start):
    """Runs the command with these settings until it ends by itself: exit code and output."""

    def run(*arguments, **settings):
        environ = {**backend, **settings}
        program = start(environ, "dispatcher", "serve", "--port", "0", *arguments)
        return program.process.wait(20), program.output.read_text()

    return run


def test_a_signal_that_another_thread_takes(backend, start):
    """It stops as well, though handlers run in the main thread only, and that one waits."""
    program = start(backend, "dispatcher", "serve", "--port", "0")
    program.wait_for_output(READY)
    pid = program.process.pid
    other, *_ = (
        int(task.name) for task in Path(f"/proc/{pid}/task").iterdir() if task.name != str(pid)
    )
    assert ctypes.CDLL(None).tgkill(pid, other, signal.SIGTERM) == 0
    assert program.process.wait(20) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_from_start_to_stop(backend, start, browser_of, tmp_path, number):
    """It says where it listens and what its queue is, takes a job, and stops with exit 0."""
    program = start(backend, "dispatcher", "serve", "--port", "0")
    browser = browser_of(int(program.wait_for_output(READY)[1]))
    assert f"queue sqlite:///{tmp_path / 'queue.sqlite3'}\n" in program.output.read_text()
    reply = browser.signed("POST", "/dispatch", BODY, "job-1")
    assert (reply.status, reply.json) == (202, {"id": "job-1", "state": "queued"})
    assert program.stop(number) == 0
    with sqlite3.connect(tmp_path / "queue.sqlite3") as database:
        assert database.execute("SELECT id FROM job").fetchall() == [("job-1",)]
    database.close()


def test_the_module_is_the_command(backend, start, browser_of):
    """``python -m dispatcher_wsgi_receiver`` does the same."""
    program = start(backend, "python", "-m", "dispatcher_wsgi_receiver", "--port", "0")
    browser = browser_of(int(program.wait_for_output(READY)[1]))
    assert browser.request("GET", "/health").json == {"status": "ok"}
    assert program.stop() == 0


def test_its_log_has_requests_and_jobs_but_no_payload(backend, start, browser_of, secret):
    """Each request and each accepted job is a line; secrets and payloads are not in it."""
    program = start(backend, "dispatcher", "serve", "--port", "0")
    browser_of(int(program.wait_for_output(READY)[1])).signed("POST", "/dispatch", BODY, "job-1")
    program.wait_for_output(r"accepted job-1 send-mail in default")
    program.wait_for_output(r"127\.0\.0\.1 'POST /dispatch HTTP/1\.1' 202")
    assert program.stop() == 0
    assert not re.search(f"ann-at-home|v1,|{secret}", program.output.read_text())


def test_modules_come_from_the_app_dir(backend, start, tmp_path):
    """--app-dir is where the application's modules are found first."""
    folder = tmp_path / "src"
    folder.mkdir()
    (folder / "other_jobs.py").write_text("print('imported', __file__)\n")
    environ = {**backend, "DISPATCHER_MODULES": "other_jobs"}
    program = start(environ, "dispatcher", "serve", "--port", "0", "--app-dir", "src")
    program.wait_for_output(READY)
    assert f"imported {folder / 'other_jobs.py'}" in program.output.read_text()
    assert program.stop() == 0


def test_a_module_that_does_not_import_is_named(fails, tmp_path):
    """One line names the module and the reason, without a traceback; exit 2."""
    text = "raise RuntimeError('line one\\nline \\x1b[31mtwo')\n"
    (tmp_path / "broken_jobs.py").write_text(text)
    code, output = fails(DISPATCHER_MODULES="broken_jobs")
    assert (code, output.count("\n")) == (2, 1)
    assert "broken_jobs" in output
    assert "RuntimeError: line one line \N{REPLACEMENT CHARACTER}[31mtwo" in output


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"DISPATCHER_IS_BACKEND": "false"}, "DISPATCHER_IS_BACKEND"),
        ({"DISPATCHER_BACKEND_SECRET": ""}, "DISPATCHER_BACKEND_SECRET"),
        ({"DISPATCHER_QUEUE_URL": "nosuch://x"}, "nosuch"),
        ({"DISPATCHER_LIFESPAN": "shop_jobs:nothing"}, "shop_jobs:nothing"),
    ],
)
def test_a_wrong_setting_is_named(fails, settings, named):
    """One line says which setting keeps it from starting; exit 2."""
    code, output = fails(**settings)
    assert (code, output.count("\n")) == (2, 1)
    assert named in output


@pytest.mark.parametrize(
    "arguments", [["--port", "x"], ["--port", "65536"], ["--port", "-1"], ["--app-dir", "nowhere"]]
)
def test_wrong_usage_is_one_line(fails, arguments):
    """An argument that is wrong is told in one line; exit 2."""
    code, output = fails(*arguments)
    assert (code, output.count("\n")) == (2, 1)
    assert arguments[1] in output


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1", "no.such.host.invalid", "a..b"])
def test_an_address_that_cannot_be_had_is_one_line(fails, host):
    """A port in use, or an address that is not ours, is told in one line; exit 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, output = fails("--port", port, "--host", host)
    assert (code, output.count("\n")) == (1, 1)
    assert f"cannot listen on {host}:{port}" in output


def test_no_address_is_every_address(fails):
    """An empty host, which the system takes for every address, is refused; exit 2."""
    code, output = fails("--host", "")
    assert (code, output.count("\n")) == (2, 1)
    assert "--host: it is empty" in output


def test_a_queue_that_cannot_be_opened(fails, tmp_path):
    """It does not start where it could keep no job, and says what to do; exit 1."""
    code, output = fails(DISPATCHER_QUEUE_URL=f"sqlite:///{tmp_path}/missing/q.sqlite3")
    assert (code, output.count("\n")) == (1, 1)
    assert f"the folder {tmp_path}/missing does not exist: make it, or set" in output


def test_the_working_directory_is_gone(tmp_path, monkeypatch, capsys):
    """In a deleted folder nothing can be imported, which is one line; exit 2."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert main(["serve"]) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert "cannot look at '.': No such file or directory" in errors


@pytest.fixture
def unread(backend, tmp_path):
    """The command, listening, after nobody reads its output any more; and its port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dispatcher_wsgi_receiver", "--port", "0"],
        env=backend,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        # A shell that starts the tests in the background lets them ignore this signal.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    with process:
        assert process.stdout.readline().startswith("queue ")
        port = int(re.fullmatch(READY, process.stdout.readline())[1])
        process.stdout.close()
        yield process, port
        process.kill()


def test_it_ends_in_good_order_when_nobody_reads_what_it_says(unread):
    """A request that is under way when it is told to stop is still answered."""
    process, port = unread
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(b"GET /health HTTP/1.0\r\n")
        # Answered, so that the connection made before it is known as well.
        with socket.create_connection(("127.0.0.1", port), 20) as other:
            other.sendall(b"GET /health HTTP/1.0\r\n\r\n")
            assert other.recv(100).startswith(b"HTTP/1.0 200")
        process.send_signal(signal.SIGINT)
        end = time.monotonic() + 20
        with contextlib.suppress(ConnectionRefusedError):
            while time.monotonic() < end:
                socket.create_connection(("127.0.0.1", port), 20).close()
                time.sleep(0.02)
        connection.sendall(b"\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.0 200")
    assert process.wait(20) == 1


def test_help_has_an_example():
    """--help shows how it is called."""
    command = [sys.executable, "-m", "dispatcher_wsgi_receiver", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    assert "dispatcher serve --port" in done.stdout
