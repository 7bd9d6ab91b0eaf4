"""The checks of this repository: ``nox -l`` lists them, ``nox -s NAME`` runs one.

Versions of tools are named in ``requirements-dev.txt`` and nowhere else.
"""

import json
import os
import re
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path

import nox

ROOT = Path(__file__).parent
DIST = ROOT / "dist"
CORE = "core"
ADAPTERS = sorted({path.parent.name for path in ROOT.glob("packages/*/pyproject.toml")} - {CORE})
PACKAGES = [CORE, *ADAPTERS]
PYTHONS = nox.project.python_versions(nox.project.load_toml("packages/core/pyproject.toml"))
DEVELOPMENT = ROOT / "requirements-dev.txt"
# The Python that runs nox, or the newest that atheris has a wheel for.
FUZZED = None if sys.version_info < (3, 14) else "3.13"

NEEDS_NOTHING = """\
from importlib.metadata import requires
needed = [line for line in requires("dispatcher-core") or () if "extra ==" not in line]
raise SystemExit(f"dispatcher-core depends on {needed}" if needed else 0)
"""

nox.needs_version = ">=2025.10.16"
nox.options.default_venv_backend = "virtualenv"
nox.options.sessions = ["lint", "typing", "tests", "isolated", "build"]


@nox.session(python=PYTHONS, reuse_venv=True)
def tests(session: nox.Session) -> None:
    """Run the tests on each supported Python that is installed."""
    session.install("-q", "-r", str(DEVELOPMENT))
    session.run("pytest", "-q", "-n", "auto", *session.posargs)


@nox.session(reuse_venv=True)
def lint(session: nox.Session) -> None:
    """Check style and format with ruff."""
    session.install("-q", requirement("ruff"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session(reuse_venv=True)
def typing(session: nox.Session) -> None:
    """Check types with mypy: the packages strictly, the tests for what they call."""
    session.install("-q", "-r", str(DEVELOPMENT))
    session.run("mypy")


@nox.session
@nox.parametrize("package", PACKAGES)
def isolated(session: nox.Session, package: str) -> None:
    """Install one package from its wheel, alone next to core, and import it."""
    wheels = new_folder(session, "wheels")
    sources = [f"packages/{name}" for name in dict.fromkeys((CORE, package))]
    session.run("pip", "wheel", "-q", "--no-deps", "--wheel-dir", str(wheels), *sources)
    before = installed(session)
    session.install("-q", *map(str, wheels.iterdir()))
    session.run("pip", "check")
    added = installed(session) - before
    if package == CORE and added != {"dispatcher-core"}:
        session.error(f"installing core alone installed {sorted(added)}")
    session.run("python", "-I", "-c", NEEDS_NOTHING, log=False)
    session.run("python", "-I", "-W", "error", "-c", f"import dispatcher_{package}")
    session.run("dispatcher", "--help", silent=True)


@nox.session
def build(session: nox.Session) -> None:
    """Build every sdist and wheel into dist/, look into them, and build from the sdists."""
    session.install("-q", requirement("hatch"))
    shutil.rmtree(DIST, ignore_errors=True)
    env = hatch_environment(new_folder(session, "hatch"))
    for package in PACKAGES:
        with session.chdir(f"packages/{package}"):
            session.run("hatch", "build", str(DIST), env=env)
        check_wheel(session, package)
        check_sdist(session, package)
    sdists = map(str, DIST.glob("*.tar.gz"))
    wheels = new_folder(session, "wheels")
    session.run("pip", "wheel", "-q", "--no-deps", "--wheel-dir", str(wheels), *sdists)


@nox.session(reuse_venv=True)
def demo(session: nox.Session) -> None:
    """Install the packages and run their demo: the whole path of a job, on real files."""
    session.install("-q", *(f"packages/{package}" for package in PACKAGES))
    session.run("dispatcher", "demo", *session.posargs)


@nox.session(reuse_venv=True)
def benchmark(session: nox.Session) -> None:
    """Measure the local queue beside other queues; wants a quiet machine and redis-server."""
    session.install("-q", "-r", str(DEVELOPMENT), "-r", "benchmarks/requirements.txt")
    session.run("python", "benchmarks/queue.py", *session.posargs)


@nox.session(reuse_venv=True)
def soak(session: nox.Session) -> None:
    """Kill the local queue's processes for minutes, and account for every job; about 10 min."""
    session.install("-q", "-r", str(DEVELOPMENT))
    with session.chdir("tests"):
        session.run("python", "-m", "soak", *session.posargs)
        session.run("python", "-m", "soak.recovery", "--kills", "50")


@nox.session(reuse_venv=True)
def batches(session: nox.Session) -> None:
    """Kill workers under batches of 200 jobs, 20 rounds, and show how each ended; about 3 min."""
    session.install("-q", "-r", str(DEVELOPMENT))
    tests = session.posargs or ["tests/local_queue/test_batches_under_kills.py"]
    session.run("pytest", "-q", "-rP", *tests, env={"BATCH_ROUNDS": "20"})


@nox.session(reuse_venv=True)
def kills(session: nox.Session) -> None:
    """Kill the receiver's processes under 10,000 dispatches, and look for each; about 30 s."""
    session.install("-q", "-r", str(DEVELOPMENT))
    with session.chdir("tests"):
        session.run("python", "-m", "delivery", *session.posargs)


@nox.session(reuse_venv=True)
def servers(session: nox.Session) -> None:
    """Try the receiver under every server and framework, and behind nginx if it is installed."""
    session.install("-q", "-r", str(DEVELOPMENT), "-r", "tests/servers/requirements.txt")
    if shutil.which("nginx", path=f"{os.defpath}:/usr/sbin") is None:
        session.warn("nginx is not installed: its tests are skipped")
    options = ["-q", "-n", "auto", "-rs", "tests/servers", *session.posargs]
    session.run("pytest", *options, env={"SERVERS": "all"})


@nox.session(python=FUZZED, reuse_venv=True)
def fuzz(session: nox.Session) -> None:
    """Fuzz the reading of messages and the verifying of signatures with atheris; 2 min."""
    needed = ("-r", "tests/fuzz/requirements.txt", "-e", f"packages/{CORE}")
    session.install("-q", "--only-binary", "atheris", *needed)
    with session.chdir("tests"):
        session.run("python", "-B", "-m", "fuzz", *session.posargs)


@nox.session(reuse_venv=True)
def clients(session: nox.Session) -> None:
    """Run the clients of docs/protocol.md, in other languages, where these are installed."""
    session.install("-q", "-r", str(DEVELOPMENT))
    folder = new_folder(session, "node")
    if shutil.which("npm"):
        options = ["--no-audit", "--no-fund", "--cache", str(folder / "cache")]
        npm = ["npm", "install", *options, "--prefix", str(folder), "standardwebhooks@^1"]
        session.run(*npm, external=True, silent=True, success_codes=range(256))
    if not (folder / "node_modules").is_dir():
        session.warn("npm installed nothing: the client in JavaScript is skipped")
    env = {"NODE_MODULES": str(folder / "node_modules")}
    session.run("pytest", "-q", "-rs", "tests/protocol", *session.posargs, env=env)


def requirement(name: str) -> str:
    """The line of requirements-dev.txt that asks for a distribution."""
    for line in DEVELOPMENT.read_text(encoding="utf-8").splitlines():
        if re.match(rf"{re.escape(name)}(?![\w.-])", line):
            return line
    raise LookupError(f"{DEVELOPMENT.name} does not name {name}")


def new_folder(session: nox.Session, name: str) -> Path:
    """An empty folder of the session's own."""
    folder = Path(session.create_tmp()).resolve() / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def hatch_environment(folder: Path) -> dict[str, str]:
    """Variables that make hatch keep its files in a folder, and out of the user's home."""
    config = folder / "config.toml"
    config.touch()
    places = {"CONFIG": config, "DATA_DIR": folder / "data", "CACHE_DIR": folder / "cache"}
    return {f"HATCH_{name}": str(place) for name, place in places.items()}


def installed(session: nox.Session) -> set[str]:
    """The names of the distributions in the session's environment."""
    listing = session.run("pip", "list", "--format=json", silent=True)
    return {entry["name"] for entry in json.loads(str(listing))}


def check_wheel(session: nox.Session, package: str) -> None:
    """The wheel has the package's files, its types marker, its licence, and nothing else."""
    (wheel,) = DIST.glob(f"dispatcher_{package}-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    metadata = {name for name in names if re.match(r"[^/]+\.dist-info/", name)}
    if names - metadata != source_files(package):
        session.error(f"{wheel.name} has other files than src/: {names - metadata}")
    if not any(name.endswith("/licenses/LICENSE") for name in metadata):
        session.error(f"{wheel.name} has no LICENSE")


def check_sdist(session: nox.Session, package: str) -> None:
    """The sdist has the package's files and what builds them: no tests, nothing stray."""
    (sdist,) = DIST.glob(f"dispatcher_{package}-*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    expected = {f"src/{name}" for name in source_files(package)}
    # Hatchling adds the .gitignore that it obeyed.
    expected |= {".gitignore", "LICENSE", "PKG-INFO", "README.md", "pyproject.toml"}
    if names | {".gitignore"} != expected:
        session.error(f"{sdist.name} and the sources differ in {sorted(names ^ expected)}")


def source_files(package: str) -> set[str]:
    """What a package is made of, as paths below its ``src``; ``py.typed`` is among them."""
    source = ROOT / "packages" / package / "src"
    files = {path for path in source.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    return {path.relative_to(source).as_posix() for path in files} | {
        f"dispatcher_{package}/py.typed"
    }
