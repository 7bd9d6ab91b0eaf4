"""What each package exports is what it says, and says what it is."""

import inspect
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

PACKAGES = Path(__file__).parents[1] / "packages"
NAMES = sorted(path.parent.name for path in PACKAGES.glob("*/src/*/__init__.py"))


@pytest.fixture(params=NAMES)
def package(request: pytest.FixtureRequest) -> ModuleType:
    """Each of the packages."""
    return import_module(request.param)


def sort_key(name: str) -> tuple[bool, bool, str]:
    """Constants first, then classes, then the rest: the order that ruff's RUF022 keeps."""
    return not name.isupper(), not name[:1].isupper(), name


def is_documented(item: object) -> bool:
    """Whether a class or function has a docstring that somebody wrote."""
    text = (vars(item).get("__doc__") if inspect.isclass(item) else item.__doc__) or ""
    # A dataclass without a docstring gets its signature for one.
    return text != "" and not text.startswith(f"{getattr(item, '__name__', '')}(")


def public_parts(cls: type) -> dict[str, object]:
    """The public methods and properties that a class itself defines, by name."""
    parts = {name: part for name, part in vars(cls).items() if not name.startswith("_")}
    unwrapped = {
        name: part.__func__ if isinstance(part, classmethod | staticmethod) else part
        for name, part in parts.items()
    }
    return {
        name: part
        for name, part in unwrapped.items()
        if inspect.isfunction(part) or isinstance(part, property)
    }


def test_a_package_exports_something(package: ModuleType) -> None:
    """A package has an ``__all__`` with names, each of them once."""
    assert package.__all__
    assert len(set(package.__all__)) == len(package.__all__)


def test_exports_are_sorted(package: ModuleType) -> None:
    """``__all__`` is sorted, so that a name has one place."""
    assert list(package.__all__) == sorted(package.__all__, key=sort_key)


def test_exports_exist(package: ModuleType) -> None:
    """Every name in ``__all__`` exists."""
    assert [name for name in package.__all__ if not hasattr(package, name)] == []


def test_no_public_name_is_left_out(package: ModuleType) -> None:
    """What a package names without an underscore, and made itself, is in ``__all__``."""
    own = {
        name
        for name, value in vars(package).items()
        if getattr(value, "__module__", "").partition(".")[0] == package.__name__
    }
    assert {name for name in own if not name.startswith("_")} - set(package.__all__) == set()


def test_exports_have_docstrings(package: ModuleType) -> None:
    """The package, its exported classes and functions and their methods have docstrings."""
    missing = [] if package.__doc__ else [package.__name__]
    for name in package.__all__:
        item = getattr(package, name)
        if not inspect.isclass(item) and not inspect.isfunction(item):
            continue
        parts = public_parts(item) if inspect.isclass(item) else {}
        missing += [] if is_documented(item) else [name]
        missing += [f"{name}.{key}" for key, part in parts.items() if not is_documented(part)]
    assert missing == []
