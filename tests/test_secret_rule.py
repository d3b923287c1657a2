"""Where secrets may be, and how the errors of libraries that know them reach a text."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from deploy.settings.doc import settings_classes
from ingest.environment import EnvironmentSettings, is_secret
from tests.test_import_rule import GATEWAY, OURS, ROOT

SECRET_NAME = re.compile(
    r"(^|_)(token|password|passphrase|secret|credentials?)($|_)(?!file$|command$)"
)  # the place of a secret is none
# Libraries that are given a secret, or that speak to a server which is.
CLIENTS = {"influxdb_client", "grafana_api", "requests", "urllib", "http", "aiokafka", "paho"}
RENDERS = {"str", "repr", "format"}


@pytest.mark.parametrize("settings", settings_classes(), ids=lambda cls: cls.__name__)
def test_settings_follow_the_rules_for_secrets(settings: type[BaseSettings]) -> None:
    assert issubclass(settings, EnvironmentSettings)
    assert settings.model_config.get("hide_input_in_errors") is True
    for name, field in settings.model_fields.items():
        assert is_secret(field) == bool(SECRET_NAME.search(name)), (
            f"{name}: a field with such a name, and no other, is a SecretStr"
        )


def imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield package and name of everything that a module imports, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.module.split(".")[0], alias.name) for alias in node.names)


def renderings(handler: ast.ExceptHandler) -> Iterator[int]:
    """Yield the lines of a handler that turn the exception itself into text."""
    for node in ast.walk(handler):
        values: list[ast.expr] = []
        if isinstance(node, ast.FormattedValue):
            values = [node.value]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            values = node.args if node.func.id in RENDERS else []
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            is_log = isinstance(node.func.value, ast.Name) and node.func.value.id == "log"
            values = node.args if is_log else []
        if any(isinstance(value, ast.Name) and value.id == handler.name for value in values):
            yield node.lineno


def flaws(path: Path) -> list[str]:
    """Places of a file that show the text of a foreign exception as it is."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = list(imported(tree))
    if not CLIENTS & {package for package, _ in names}:
        return []
    ours = {name for package, name in names if package in OURS}
    ours |= {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    found = []
    for handler in ast.walk(tree):
        if not isinstance(handler, ast.ExceptHandler) or handler.type is None:
            continue
        caught = {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)}
        if caught - ours:
            found += [f"{path.relative_to(ROOT)}:{line}" for line in renderings(handler)]
    return found


def test_errors_of_clients_are_shown_by_error_text_only() -> None:
    paths = [path for package in GATEWAY for path in (ROOT / package).rglob("*.py")]
    assert [flaw for path in paths for flaw in flaws(path)] == []


def test_the_rule_sees_every_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.test_secret_rule.ROOT", tmp_path)
    path = tmp_path / "client.py"
    forms = ["f'{exc}'", "f'{exc!r}'", "str(exc)", "repr(exc)", "log.error('%s', exc)"]
    for form in forms:
        path.write_text(f"import requests\ntry:\n    pass\nexcept OSError as exc:\n    {form}\n")
        assert flaws(path) == ["client.py:5"], form
    path.write_text(
        "import requests\ntry:\n    pass\nexcept OSError as exc:\n    error_text(exc)\n"
    )
    assert flaws(path) == []
