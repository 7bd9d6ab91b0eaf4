"""What may import what, and that every test says what it is for.

Read from the source with ``ast``: nothing of the packages is imported here.
"""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGES = Path(__file__).parents[1] / "packages"
CORE = "dispatcher_core"
OPTIONAL = {
    "dispatcher_core.pytest_plugin": {"pytest"},
    "dispatcher_core.contrib.django": {"django", "asgiref"},
    "dispatcher_http_sender.requests_sender": {"requests", "urllib3"},
}
"""Modules for the sake of what their package does not depend on.

asgiref comes with Django, urllib3 with requests.
"""


@dataclass(frozen=True, slots=True)
class Module:
    """A module's source.

    Attributes:
        name: its full name.
        is_package: whether it is an ``__init__.py``.
        text: the source.
    """

    name: str
    is_package: bool
    text: str

    @property
    def package(self) -> str:
        """The name of the top-level package it belongs to."""
        return self.name.partition(".")[0]

    def imports(self) -> Iterator[str]:
        """Full names of what it imports, at any depth.

        ``from a import b`` gives ``a.b``: only who knows all modules can tell whether ``b``
        is one of them.
        """
        for node in ast.walk(ast.parse(self.text)):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = self._base(node)
                yield from (f"{base}.{alias.name}" for alias in node.names)

    def late_imports(self) -> Iterator[str]:
        """Import statements inside functions that no comment ``# lazy: <reason>`` excuses."""
        lines = self.text.splitlines()
        for function in ast.walk(ast.parse(self.text)):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for node in ast.walk(function):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    source = lines[node.lineno - 1 : node.end_lineno]
                    if not any(re.search(r"# lazy: \S", line) for line in source):
                        yield f"{self.name}, line {node.lineno}: {source[0].strip()}"

    def _base(self, node: ast.ImportFrom) -> str:
        """The full name of the module that a ``from`` names, relative ones resolved."""
        if not node.level:
            return node.module or ""
        parents = self.name.split(".")
        kept = len(parents) - node.level + self.is_package
        return ".".join([*parents[:kept], *([node.module] if node.module else [])])


def read_modules() -> list[Module]:
    """Every module under ``packages/*/src``."""
    modules = []
    for source in sorted(PACKAGES.glob("*/src")):
        for file in sorted(source.rglob("*.py")):
            parts = file.relative_to(source).with_suffix("").parts
            is_package = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if is_package else parts)
            modules.append(Module(name, is_package, file.read_text(encoding="utf-8")))
    return modules


def read_dependencies() -> dict[str, set[str]]:
    """The names that each package's ``pyproject.toml`` says it needs, as they are imported."""
    found = {}
    for file in PACKAGES.glob("*/pyproject.toml"):
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        names = (re.split(r"[^A-Za-z0-9_.-]", line)[0] for line in project["dependencies"])
        found[project["name"].replace("-", "_")] = {name.replace("-", "_") for name in names}
    return found


def import_graph(modules: list[Module]) -> dict[str, set[str]]:
    """Which modules each module imports, of those given."""
    known = {module.name for module in modules}
    graph: dict[str, set[str]] = {}
    for module in modules:
        targets = graph.setdefault(module.name, set())
        for name in module.imports():
            target = name if name in known else name.rpartition(".")[0]
            targets.update({target} & known)
    return graph


def find_cycle(graph: Mapping[str, set[str]]) -> list[str]:
    """The modules of one import cycle in order, empty where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


TESTS = sorted(Path(__file__).parent.rglob("test_*.py"))
MODULES = read_modules()
DEPENDENCIES = read_dependencies()
each_module = pytest.mark.parametrize("module", MODULES, ids=[module.name for module in MODULES])


@each_module
def test_a_module_imports_what_its_package_depends_on(module: Module) -> None:
    """A module imports the standard library, its own package and declared dependencies only."""
    allowed = {*sys.stdlib_module_names, module.package, *DEPENDENCIES[module.package]}
    allowed |= OPTIONAL.get(module.name, set())
    others = [name for name in module.imports() if name.partition(".")[0] not in allowed]
    assert others == []


@each_module
def test_a_module_imports_at_its_top(module: Module) -> None:
    """No import hides in a function, unless a comment ``# lazy:`` says why."""
    assert list(module.late_imports()) == []


@pytest.mark.parametrize("package", sorted(DEPENDENCIES))
def test_packages_depend_on_core_alone(package: str) -> None:
    """Core depends on nothing, an adapter on core and never on another adapter."""
    siblings = DEPENDENCIES[package] & DEPENDENCIES.keys()
    assert siblings == (set() if package == CORE else {CORE})
    assert package != CORE or DEPENDENCIES[CORE] == set()


def test_no_import_cycles() -> None:
    """No module imports itself by a detour."""
    assert find_cycle(import_graph(MODULES)) == []


@pytest.mark.parametrize("file", TESTS, ids=[file.parent.name + "/" + file.stem for file in TESTS])
def test_every_test_says_what_is_to_hold(file: Path) -> None:
    """Each test begins with a docstring: the sentence that fails when the test does."""
    tests = [
        node
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    ]
    assert tests
    assert [test.name for test in tests if not ast.get_docstring(test)] == []


def test_every_package_is_looked_at() -> None:
    """Each package with a ``pyproject.toml`` has modules under the name it declares."""
    assert {module.package for module in MODULES} == DEPENDENCIES.keys()


def test_relative_imports_are_resolved() -> None:
    """A relative import counts as what it means, from a module and from a package."""
    source = "from . import a\nfrom .b import c\nfrom ..d import e\nimport f.g\n"
    expected = ["p.q.a", "p.q.b.c", "p.d.e", "f.g"]
    assert list(Module("p.q.r", False, source).imports()) == expected
    assert list(Module("p.q", True, source).imports()) == expected


def test_a_cycle_is_found() -> None:
    """A cycle over three modules, one of which imports the package, is reported."""
    package = Module("p", True, "from .a import x\n")
    modules = [package, Module("p.a", False, "from . import b\n")]
    assert find_cycle(import_graph([*modules, Module("p.b", False, "import os\n")])) == []
    looped = find_cycle(import_graph([*modules, Module("p.b", False, "from p import x\n")]))
    assert set(looped) == {"p", "p.a", "p.b"}


def test_a_late_import_is_found() -> None:
    """An import in a function is reported unless it comes with its reason."""
    source = "def f():\n    import a\n    import b  # lazy: start-up\n    import c  # lazy:\n"
    found = list(Module("p.q", False, source).late_imports())
    assert found == ["p.q, line 2: import a", "p.q, line 4: import c  # lazy:"]
