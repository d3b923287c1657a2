"""The settings page and the settings classes agree, in both directions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from deploy.settings.doc import env_name, settings_classes, settings_page

PAGE = Path(__file__).parent.parent / "docs" / "settings.md"
PREFIXES = {
    "ingest.settings": ("KPSTREAM_INGEST_",),
    "pipeline.settings": ("KPSTREAM_PIPELINE_",),
    "deploy.settings.settings": ("KPSTREAM_GATEWAY_", "KPSTREAM_SITE_"),
    "deploy.settings.rolloutsettings": ("KPSTREAM_ROLLOUT_",),
    "deploy.settings.centresettings": ("KPSTREAM_CENTRE_",),
    "dashboards.settings": ("KPSTREAM_GRAFANA_",),
    "deploy.settings.recordsettings": ("KPSTREAM_RECORD_",),
}
FIELDS = [(settings, name) for settings in settings_classes() for name in settings.model_fields]


def test_every_package_of_the_gateway_has_settings() -> None:
    assert {settings.__module__ for settings in settings_classes()} == set(PREFIXES)


def test_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == settings_page(), (
        "out of date: python -m deploy.settings.doc > docs/settings.md"
    )


@pytest.mark.parametrize(
    ("settings", "name"), FIELDS, ids=[f"{settings.__name__}.{name}" for settings, name in FIELDS]
)
def test_setting_is_documented(settings: type[BaseSettings], name: str) -> None:
    row = next(
        line
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if line.startswith(f"| `{env_name(settings, name)}` |")
    )
    cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]
    assert len(cells) == 4
    assert all(cells), "variable, default, values and meaning"
    assert len(cells[3]) > 15, "the meaning is a sentence"


@pytest.mark.parametrize("settings", settings_classes(), ids=lambda cls: cls.__name__)
def test_settings_are_frozen_and_have_the_prefix_of_their_package(
    settings: type[BaseSettings],
) -> None:
    assert settings.model_config.get("frozen") is True
    assert settings.model_config.get("env_prefix") in PREFIXES[settings.__module__]


@pytest.mark.parametrize("settings", settings_classes(), ids=lambda cls: cls.__name__)
def test_every_setting_has_a_default(settings: type[BaseSettings]) -> None:
    assert not [name for name, field in settings.model_fields.items() if field.is_required()]
