"""Only a task's own files check for a task by name or type; everything else reads the `Task`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.tasks.registry import tasks

ROOT = Path(__file__).parent.parent
PACKAGES = ("ingest", "pipeline", "models", "training", "deploy", "dashboards")
NAMES = {task.name for task in tasks()}
TYPES = {"RulDecoding", "RulScores", "ActivityScores", "RUL", "ACTIVITY", "FORECAST"}

# The files of a task: itself, its card, its board, its data sets.
OF_A_TASK = re.compile(
    r"models/tasks/(rul|activity|forecast)\.py|dashboards/boards/(rul|activity|forecast)\.py|training/datasets/.*"
)
FILES = [
    path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
    if not OF_A_TASK.fullmatch(path.relative_to(ROOT).as_posix())
]
PAGE = ROOT / "pipeline" / "console" / "web"


def _asks(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and text of every comparison with a task by name or type in a file."""
    for node in ast.walk(tree):
        found = False
        if isinstance(node, ast.Compare):
            found = any(_is_task(side) for side in (node.left, *node.comparators))
        elif isinstance(node, ast.MatchValue):
            found = _is_task(node.value)
        elif isinstance(node, ast.Dict) and len(node.keys) > 1:
            found = all(key is not None and _is_task(key) for key in node.keys)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass"):
            found = _is_task(node.args[1])
        if found:
            yield node.lineno, ast.unparse(node)[:80]


def _is_task(node: ast.expr) -> bool:
    if isinstance(node, ast.Constant):
        return node.value in NAMES
    if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
        return any(_is_task(item) for item in node.elts)
    if isinstance(node, ast.BinOp):  # A | B
        return _is_task(node.left) or _is_task(node.right)
    if isinstance(node, ast.Attribute):
        return node.attr in TYPES
    return isinstance(node, ast.Name) and node.id in TYPES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_file_asks_for_a_task_by_name_or_by_type(path: Path) -> None:
    asks = list(_asks(ast.parse(path.read_text(encoding="utf-8"))))
    assert not asks, "read it from the Task: models/tasks/contract.py"


@pytest.mark.parametrize(
    "code",
    [
        'task == "rul"',
        '"activity" != task',
        'task in ("rul", "other")',
        'match task:\n    case "rul":\n        pass',
        '{"rul": 1, "activity": 2}[task]',
        "isinstance(scores, RulScores)",
        "isinstance(scores, (int, rul.RulScores))",
        "task is RUL",
    ],
)
def test_each_way_to_compare_is_found(code: str) -> None:
    assert list(_asks(ast.parse(code)))


@pytest.mark.parametrize("code", ['{"rul": 1}', 'latest(results, "rul")', 'fields = ["rul"]'])
def test_a_comparison_that_decides_nothing_is_not_reported(code: str) -> None:
    assert not list(_asks(ast.parse(code)))


@pytest.mark.parametrize("path", sorted(PAGE.glob("*.js")), ids=lambda path: path.name)
def test_the_page_leaves_tasks_to_their_cards(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    names = "|".join(NAMES)
    assert not re.findall(
        rf"[=!]==? [\"'](?:{names})[\"']|\bd\.(?:{names})\b|\{{ ?(?:{names}):", text
    )
