"""The packages as an installer sees them."""

import ast
import inspect
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.metadata import EntryPoint, distribution
from pathlib import Path
from typing import Any

import pytest

from dispatcher_core.command import Command

ROOT = Path(__file__).parents[1]
FOLDERS = sorted(file.parent for file in ROOT.glob("packages/*/pyproject.toml"))
FORBIDDEN = {"asyncio", "http.client", "multiprocessing", "sqlite3", "urllib.request"}
"""Modules that ``import dispatcher_core`` must not load: they cost start-up time."""


def read_project(folder: Path) -> dict[str, Any]:
    """The ``[project]`` table of a folder's ``pyproject.toml``."""
    text = (folder / "pyproject.toml").read_text(encoding="utf-8")
    return dict(tomllib.loads(text)["project"])


def read_entry_points(folder: Path) -> list[EntryPoint]:
    """The entry points that a folder's ``pyproject.toml`` declares, scripts included."""
    project = read_project(folder)
    groups = {"console_scripts": project.get("scripts", {}), **project.get("entry-points", {})}
    return [
        EntryPoint(name, value, group)
        for group, points in groups.items()
        for name, value in points.items()
    ]


def requirements(folder: Path) -> list[str]:
    """Everything that a folder's project requires, in its extras too."""
    project = read_project(folder)
    extras = project.get("optional-dependencies", {})
    return [*project["dependencies"], *(line for lines in extras.values() for line in lines)]


ENTRY_POINTS = [point for folder in FOLDERS for point in read_entry_points(folder)]
each_folder = pytest.mark.parametrize("folder", FOLDERS, ids=[path.name for path in FOLDERS])


def test_versions_agree() -> None:
    """The packages and the workspace that brings them have one version."""
    versions = {path.name: read_project(path)["version"] for path in [ROOT, *FOLDERS]}
    assert len(set(versions.values())) == 1, versions


@each_folder
def test_pins_agree(folder: Path) -> None:
    """A package takes its siblings from its own minor version on, and below the next one."""
    major, minor, _ = (int(part) for part in read_project(folder)["version"].split("."))
    pins = [line for line in requirements(folder) if line.startswith("dispatcher-")]
    ranges = {re.sub(r"^[a-z-]+", "", line) for line in pins}
    assert ranges == {f">={major}.{minor},<{major}.{minor + 1}"}


@each_folder
def test_settings_agree(folder: Path) -> None:
    """Licence, supported Python and classifiers are the same everywhere."""
    mine, first = read_project(folder), read_project(FOLDERS[0])
    shared = ("requires-python", "license", "license-files", "authors", "classifiers", "readme")
    assert {key: mine[key] for key in shared} == {key: first[key] for key in shared}
    assert read_project(ROOT)["requires-python"] == first["requires-python"]


@each_folder
def test_the_workspace_brings_the_package(folder: Path) -> None:
    """``pip install .`` brings every package, and so does the development set-up, editable."""
    name, place = read_project(folder)["name"], folder.relative_to(ROOT)
    assert f"{name} @ {{root:uri}}/{place}" in read_project(ROOT)["dependencies"]
    lines = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8").splitlines()
    assert f"-e {place}" in lines


@each_folder
def test_what_is_installed_is_this_package(folder: Path) -> None:
    """The environment has this version with these entry points: else set it up anew."""
    project = read_project(folder)
    installed = distribution(project["name"])
    assert installed.version == project["version"]
    module = import_module(project["name"].replace("-", "_"))
    assert module.__version__ == project["version"]
    expected = {(point.group, point.name, point.value) for point in read_entry_points(folder)}
    found = {(point.group, point.name, point.value) for point in installed.entry_points}
    assert found == expected


@each_folder
def test_the_package_is_typed(folder: Path) -> None:
    """Type checkers use the annotations of a package only where it has ``py.typed``."""
    module = read_project(folder)["name"].replace("-", "_")
    assert (folder / "src" / module / "py.typed").is_file()


@each_folder
def test_the_licence_is_copied(folder: Path) -> None:
    """Each package carries the licence's text itself: a link would not survive an sdist."""
    licence = folder / "LICENSE"
    assert not licence.is_symlink()
    assert licence.read_bytes() == (ROOT / "LICENSE").read_bytes()


@pytest.mark.parametrize("point", ENTRY_POINTS, ids=lambda point: f"{point.group}:{point.name}")
def test_entry_points_load(point: EntryPoint) -> None:
    """What an entry point names exists, and is what its group promises."""
    loaded = point.load()
    if point.group == "dispatcher.commands":
        assert isinstance(loaded, Command)
    elif point.group == "pytest11":
        assert inspect.ismodule(loaded)
    else:
        assert callable(loaded)


@each_folder
def test_readme_examples_parse(folder: Path) -> None:
    """The README's Python examples are Python, and what they import exists."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    examples = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert examples
    imports = [
        (node.module, alias.name)
        for example in examples
        for node in ast.walk(ast.parse(example))
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    ]
    assert [pair for pair in imports if not hasattr(import_module(pair[0]), pair[1])] == []


def test_core_imports_little() -> None:
    """``import dispatcher_core`` loads light parts of the standard library and nothing else."""
    loaded = loaded_modules("import dispatcher_core") - loaded_modules("pass")
    assert "dispatcher_core" in loaded
    known = {*sys.stdlib_module_names, "dispatcher_core"}
    assert {name for name in loaded if name.partition(".")[0] not in known} == set()
    assert FORBIDDEN & loaded == set()


def loaded_modules(code: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after running some code."""
    command = [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules, sep='\\n')"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
