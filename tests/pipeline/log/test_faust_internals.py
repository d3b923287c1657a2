"""`docs/faust-internals.md` names every private part of Faust that the code overrides or uses."""

from __future__ import annotations

import ast
import importlib.util
import re
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent.parent
PAGE = (ROOT / "docs" / "faust-internals.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(pipeline/[\w/]+\.py)` \| `(\w+)` \| `([\w.]+)` \|", re.M)
ROWS = ROW.findall(PAGE)
FILES = {path for path, _, _ in ROWS} | {"pipeline/log/sqliteproducer.py"}
FAUST = ("faust.transport.consumer", "faust.transport.producer", "faust.app.base", "mode.services")


def source(module: str) -> str:
    try:
        spec = importlib.util.find_spec(module)
    except ImportError:
        spec = None
    if spec is None or spec.origin is None:
        pytest.skip(f"{module} is not installed")
    return Path(spec.origin).read_text(encoding="utf-8")


def private_names(path: str) -> set[str]:
    """Private methods defined and private attributes used in the classes of a file."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    methods = {
        method.name
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        for method in node.body
        if isinstance(method, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return {n for n in methods | attributes if n.startswith("_") and not n.startswith("__")}


@pytest.mark.parametrize(("path", "name", "module"), ROWS)
def test_a_listed_part_is_in_the_code_and_in_the_library(path: str, name: str, module: str) -> None:
    word = re.compile(rf"\b{name}\b")
    assert word.search((ROOT / path).read_text(encoding="utf-8"))
    assert word.search(source(module))


@pytest.mark.parametrize("path", sorted(FILES))
def test_no_private_part_of_faust_is_used_without_being_listed(path: str) -> None:
    theirs = "\n".join(source(module) for module in FAUST)
    defined = set(re.findall(r"(?:def |self\.)(_[a-z]\w*)", theirs))
    listed = {name for file, name, _ in ROWS if file == path}
    assert private_names(path) & defined - listed == set()


def test_the_versions_are_those_of_the_package_and_those_installed() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    pinned = dict(re.findall(r'"(faust-streaming|aiokafka)(?:\[\w+\])?>=(\d+\.\d+)', project))
    for name, minor in re.findall(
        r"(faust-streaming|mode-streaming|aiokafka) (\d+\.\d+)[,.]", PAGE
    ):
        assert minor == pinned.get(name, minor)
        assert version(name).startswith(f"{minor}.")
