"""The table of all settings, written from the settings classes themselves.

`python -m deploy.settings.doc > docs/settings.md` renews the page; a test fails when the page and
the classes disagree, so that a setting without a line in the documentation cannot exist.
"""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

__all__ = ["SETTINGS_MODULES", "env_name", "settings_classes", "settings_page"]

SETTINGS_MODULES = (
    "ingest.settings",
    "pipeline.settings",
    "deploy.settings.settings",
    "deploy.settings.recordsettings",
    "deploy.settings.rolloutsettings",
    "deploy.settings.centresettings",
    "dashboards.settings",
)
"""Modules with settings classes, one per package that has settings."""

_HEAD = """\
# Settings

Every setting is an environment variable with a default that works on one machine. An invalid value
is refused at start, with the name of the variable. Secrets are never printed.

No setting defines how a stream is windowed and scored: channels, window length, hop and largest gap
come from the manifest of the student that scores it.

<!-- Written by `python -m deploy.settings.doc > docs/settings.md`; change the classes instead. -->
"""


_KINDS: Mapping[Any, str] = {
    bool: "`true`, `false`",
    float: "number",
    int: "whole number",
    Path: "path",
    SecretStr: "secret text",
    str: "text",
    tuple[str, ...]: "JSON array of text",
    dict[str, int]: "JSON object of whole numbers",
}

_LIMITS: Mapping[type, Any] = {
    annotated_types.Ge: lambda bound: f"at least {bound.ge}",
    annotated_types.Gt: lambda bound: f"above {bound.gt}",
    annotated_types.Le: lambda bound: f"at most {bound.le}",
    annotated_types.Lt: lambda bound: f"below {bound.lt}",
}


def settings_classes() -> list[type[BaseSettings]]:
    """Return every settings class, in the order of the data flow."""
    found = []
    for module_name in SETTINGS_MODULES:
        members = vars(import_module(module_name)).values()
        found += [
            member
            for member in members
            if isinstance(member, type)
            and issubclass(member, BaseSettings)
            and member.__module__ == module_name
        ]
    return found


def env_name(settings: type[BaseSettings], field: str) -> str:
    """Return the environment variable of a field.

    >>> from deploy.settings.settings import GatewaySettings
    >>> env_name(GatewaySettings, "console_port")
    'KPSTREAM_GATEWAY_CONSOLE_PORT'
    """
    return f"{settings.model_config.get('env_prefix', '')}{field}".upper()


def settings_page() -> str:
    """Return the whole page as Markdown, with one table per settings class."""
    return "\n".join([_HEAD, *(_section(settings) for settings in settings_classes())])


def _section(settings: type[BaseSettings]) -> str:
    summary = (settings.__doc__ or settings.__name__).strip().splitlines()[0]
    lines = [
        f"## {settings.__name__}",
        "",
        summary,
        "",
        "| variable | default | values | meaning |",
        "|---|---|---|---|",
    ]
    for name in _own_fields_first(settings):
        field = settings.model_fields[name]
        cells = (f"`{env_name(settings, name)}`", _default(field), _values(field), _meaning(field))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _own_fields_first(settings: type[BaseSettings]) -> list[str]:
    inherited = {
        name
        for base in settings.__bases__
        if issubclass(base, BaseSettings)
        for name in base.model_fields
    }
    return sorted(settings.model_fields, key=lambda name: name in inherited)


def _meaning(field: FieldInfo) -> str:
    return " ".join((field.description or "").split()).replace("<", "\\<")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None:
        return "unset"
    if isinstance(value, (tuple, dict)):
        return f"`{json.dumps(value)}`"
    if isinstance(value, SecretStr):
        return "secret"
    if isinstance(value, Path) and value.is_relative_to(Path.home()):
        value = Path("~") / value.relative_to(Path.home())
    if isinstance(value, bool):
        value = str(value).lower()
    return f"`{value}`"


def _values(field: FieldInfo) -> str:
    kind = _kind(field.annotation)
    limits = [_LIMITS[type(bound)](bound) for bound in field.metadata if type(bound) in _LIMITS]
    return ", ".join([kind, *limits])


def _kind(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    if origin is tuple and get_origin(get_args(annotation)[0]) is Literal:
        return f"JSON array of {_kind(get_args(annotation)[0])}"
    if origin in (Union, types.UnionType):
        return " or ".join(
            _kind(part) for part in get_args(annotation) if part is not types.NoneType
        )
    return _KINDS.get(annotation, getattr(annotation, "__name__", str(annotation)))


if __name__ == "__main__":
    sys.stdout.write(settings_page())
