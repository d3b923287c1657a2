"""Every module declares its public names correctly; every package has a guide."""

from __future__ import annotations

import ast
import importlib
from functools import cache
from importlib.metadata import distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("ingest", "pipeline", "models", "training", "deploy", "dashboards")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
GUIDES = [ROOT / package / "__init__.py" for package in PACKAGES]


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _public(path: Path) -> list[str]:
    """The `__all__` of a file, read from its text."""
    for node in _tree(path).body:
        targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            assert isinstance(node, (ast.Assign, ast.AnnAssign))
            assert node.value is not None
            return list(ast.literal_eval(node.value))
    if path.name == "__init__.py" and not _defined(path):
        return []  # a guide page that offers no names of its own
    pytest.fail(f"{path.relative_to(ROOT)} has no __all__")


def _defined(path: Path) -> set[str]:
    """Functions and classes that look public; a click command is public by its command line."""
    return {
        node.name
        for node in _tree(path).body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        and not node.name.startswith("_")
        and node.name != "main"
        and not any(".command" in ast.unparse(mark) for mark in node.decorator_list)
    }


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_public_names_are_declared_once_and_defined(path: Path) -> None:
    names = _public(path)
    assert len(names) == len(set(names))
    assert not [name for name in names if name.startswith("_")]
    undeclared = _defined(path) - set(names)
    assert not undeclared, "public by name, so in __all__ (or begin with an underscore)"


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_public_names_are_real(path: Path) -> None:
    if path.is_relative_to(ROOT / "training"):
        pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")
    module = importlib.import_module(_name(path))
    for name in _public(path):
        if path.name == "__init__.py" and not hasattr(module, name):
            importlib.import_module(f"{_name(path)}.{name}")  # a package may name its modules
        else:
            getattr(module, name)


@pytest.mark.parametrize("path", GUIDES, ids=_name)
def test_package_docstring_is_a_guide(path: Path) -> None:
    guide = ast.get_docstring(_tree(path)) or ""
    assert "TODO" not in guide
    assert len(guide) > 300, "what the package is for, its parts, and a walk-through"


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_module_has_a_docstring(path: Path) -> None:
    assert len(ast.get_docstring(_tree(path)) or "") > 20


@pytest.mark.parametrize("path", GUIDES, ids=_name)
def test_package_is_light_to_import(path: Path) -> None:
    imported = [
        ast.unparse(node)
        for node in _tree(path).body
        if isinstance(node, (ast.Import, ast.ImportFrom))
    ]
    assert set(imported) <= {"from __future__ import annotations"}


ENTRY_POINTS = [
    pytest.param(point, id=point.name) for point in distribution("kpstream").entry_points
]


@pytest.mark.parametrize("point", ENTRY_POINTS)
def test_entry_point_resolves(point) -> None:
    if point.value.startswith("training"):
        pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")
    assert callable(point.load())


def test_commands_and_transport_are_declared() -> None:
    declared = {(point.group, point.name) for point in distribution("kpstream").entry_points}
    assert declared == {
        ("console_scripts", "kpstream"),
        ("console_scripts", "train-redistill"),
        ("faust.transports", "sqlite"),
    }
