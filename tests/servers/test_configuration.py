"""The commands, units and Compose file of ``docs/deploy.md``, checked by what reads them."""

import runpy
import shlex
import shutil
import signal
import socket
import subprocess
import sysconfig
import time
import uuid
from configparser import RawConfigParser

import pytest

UNITS = ["dispatcher-receiver.service", "dispatcher-worker.service"]


def option(command, name):
    """The number that follows an option in a command."""
    words = shlex.split(command)
    return float(words[words.index(name) + 1])


def graceful_timeout(place):
    """What gunicorn's file says."""
    return runpy.run_path(str(place.folder / "gunicorn.conf.py"))["graceful_timeout"]


def unit(place, name):
    """The section ``Service`` of a unit."""
    parser = RawConfigParser(strict=False)
    parser.read(place.folder / name)
    return parser["Service"]


def test_every_command_of_the_page_is_tried(untried):
    """What the page says to type, the tests type."""
    assert untried == set()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
@pytest.mark.parametrize("name", UNITS)
def test_systemd_understands_the_units(place, name):
    """``systemd-analyze verify`` has nothing to say: no unknown key, no bad value."""
    path = place.folder / name
    scripts = sysconfig.get_path("scripts")
    path.write_text(path.read_text().replace("/srv/app-b/venv/bin", scripts))
    command = ["systemd-analyze", "verify", "--man=no", str(path)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


def test_gunicorn_says_that_it_is_ready(place):
    """``Type=notify`` suits the receiver: it sends systemd what that waits for."""
    assert unit(place, UNITS[0])["Type"] == "notify"
    name = f"dispatcher-test-{uuid.uuid4()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.bind(f"\0{name}")
        notices.settimeout(60)
        program = place.start(["gunicorn"], NOTIFY_SOCKET=f"@{name}")
        assert b"READY=1" in notices.recv(4096)
        assert program.stop() == 0


def test_systemd_waits_for_what_it_stops(place):
    """Both units have longer to stop than their programs take for it, and share their folder."""
    receiver, worker = (unit(place, name) for name in UNITS)
    assert float(receiver["TimeoutStopSec"]) > graceful_timeout(place)
    assert float(worker["TimeoutStopSec"]) > option(worker["ExecStart"], "--shutdown-timeout")
    for key in ("User", "StateDirectory", "WorkingDirectory"):
        assert receiver[key] == worker[key]


@pytest.fixture
def services(place):
    """The services of the Compose file, with paths and ports of this machine."""
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    path = place.folder / "compose.yaml"
    (place.folder / "data").mkdir()
    text = path.read_text().replace("/data/", f"{place.folder}/data/")
    text = text.replace("/run/secrets/dispatcher-secret", str(place.folder / "secret"))
    return yaml.safe_load(text)["services"]


@pytest.fixture
def start_service(place, services):
    """Starts the command of a service in its environment, and nothing of ours."""
    for name in [name for name in place.environment if name.startswith("DISPATCHER_")]:
        del place.environment[name]

    def start(name):
        service = services[name]
        return place.start(shlex.split(service["command"]), **service["environment"])

    return start


def test_the_services_run_a_job(place, services, start_service, reach):
    """Commands, environments, health checks and stop signals do what they are for."""
    receiver = start_service("receiver")
    port = receiver.wait_for(r"Listening at: http://127\.0\.0\.1:(\d+)")
    _, *asks = services["receiver"]["healthcheck"]["test"]
    asks = [word.replace("127.0.0.1:0", f"127.0.0.1:{port}") for word in asks]
    assert place.run(asks).returncode == 0

    def is_healthy():
        _, *command = services["worker"]["healthcheck"]["test"]
        return place.run(command, **services["worker"]["environment"]).returncode == 0

    worker = start_service("worker")
    deadline = time.monotonic() + 60
    while not is_healthy():
        assert time.monotonic() < deadline, worker.output.read_text()
    with reach(f"http://127.0.0.1:{port}").dispatcher() as dispatcher:
        result = dispatcher.dispatch("send-mail", {"to": "ann"}).raise_for_error()
        assert dispatcher.wait(result.id, timeout=60).result == "sent to ann"
    for name, program in (("worker", worker), ("receiver", receiver)):
        assert program.stop(signal.Signals[services[name]["stop_signal"]]) == 0
    assert not is_healthy()
    assert place.run(asks).returncode != 0


def test_compose_waits_for_what_it_stops(place, services):
    """Both services have longer to stop than their programs take, and share their volume."""
    receiver, worker = services["receiver"], services["worker"]
    grace = {name: float(service["stop_grace_period"][:-1]) for name, service in services.items()}
    assert grace["receiver"] > graceful_timeout(place)
    assert grace["worker"] > option(worker["command"], "--shutdown-timeout")
    assert receiver["volumes"] == worker["volumes"]
    assert receiver["init"] and worker["init"]


def test_docker_understands_the_compose_file(place):
    """``docker compose config`` accepts it."""
    docker = shutil.which("docker")
    command = [str(docker), "compose", "--file", "compose.yaml", "config", "--quiet"]
    if docker is None or subprocess.run([docker, "compose", "version"]).returncode:
        pytest.skip("there is no docker compose")
    found = subprocess.run(command, cwd=place.folder, capture_output=True, text=True, timeout=60)
    assert (found.returncode, found.stderr) == (0, "")
