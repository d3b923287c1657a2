"""Everything that grows is on the page of limits, with the rule that ends its growth."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/limits.md"
PLACES = ("ingest", "pipeline")
NOT_RUNNING = ("ingest/simulators", "ingest/replay.py", "ingest/recordings/")
"""Commands that end by themselves."""
GROWING = {"dict", "set", "list", "deque", "OrderedDict", "Counter", "defaultdict", "Roster"}
TABLE = re.compile(r"CREATE TABLE (?:IF NOT EXISTS )?(\w+) \(")


def _attributes(path: Path) -> Iterator[str]:
    """Attributes of objects that are annotated as a container, and are not of a record."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Attribute):
            if _head(node.annotation) in GROWING:
                yield node.target.attr
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            for target in node.targets:
                if isinstance(target, ast.Attribute) and _head(node.value.func) in GROWING:
                    yield target.attr


def _head(node: ast.expr) -> str:
    while isinstance(node, ast.Subscript):
        node = node.value
    if isinstance(node, ast.BinOp):
        return _head(node.left)
    return node.id if isinstance(node, ast.Name) else ""


def _found() -> set[str]:
    found = set()
    for place in PLACES:
        for path in sorted((ROOT / place).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if name.startswith(NOT_RUNNING):
                continue
            found |= {f"{name}:{attribute}" for attribute in _attributes(path)}
            tables = TABLE.findall(path.read_text(encoding="utf-8"))
            found |= {f"{name}:{table}" for table in tables}
    return found


def _documented() -> set[str]:
    """`file.py:name` in the first column of a table; several names in one cell are allowed."""
    found = set()
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("| "):
            found |= set(re.findall(r"`([\w/]+\.py:\w+)`", line.split(" | ")[0]))
    return found


def test_every_container_of_a_running_process_is_on_the_page() -> None:
    found = _found()
    assert len(found) > 40
    assert sorted(found - _documented()) == [], "add them to docs/limits.md, with cap and age"
    assert sorted(_documented() - found) == [], "docs/limits.md names what is no longer there"


def test_no_cache_of_a_function_is_without_a_limit() -> None:
    for place in PLACES:
        for path in (ROOT / place).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert "lru_cache(maxsize=None)" not in text, path
            assert not re.search(r"@(functools\.)?cache\b", text), path
