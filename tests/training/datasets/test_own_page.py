"""The page on own data names every field, and its examples are descriptions that are taken."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from training.datasets.own_description import (
    Activity,
    Channel,
    Files,
    Own,
    OwnTime,
    Rul,
    Test,
    Window,
    read_own_description,
)
from training.redistill import redistill

PAGE = (Path(__file__).parents[3] / "docs" / "own-data.md").read_text(encoding="utf-8")
TABLES: dict[str, type[BaseModel]] = {
    "": Own,
    "time": OwnTime,
    "rul": Rul,
    "activity": Activity,
    "window": Window,
    "test": Test,
}
EXAMPLES = dict(re.findall(r"<!-- example: (\w+) -->\n```toml\n(.*?)```", PAGE, re.S))


def test_every_field_is_on_the_page():
    fields = re.findall(r"^\| (`.*?) \|", PAGE, re.M)
    named = set(re.findall(r"`([\w.]+)`", " ".join(fields)))
    wanted = {
        f"{table}.{name}".lstrip(".")
        for table, model in TABLES.items()
        for name in model.model_fields
    }
    assert wanted - named - set(TABLES) == set()
    assert named - wanted == set()
    for model in (Channel, Files):
        for name in model.model_fields:
            assert f"`{name}`" in PAGE or f"{name}," in PAGE or f"{name} }}" in PAGE, name


@pytest.mark.parametrize("name", ["rul", "activity"])
def test_the_examples_are_descriptions(tmp_path, name):
    path = tmp_path / "dataset.toml"
    path.write_text(EXAMPLES[name])
    assert read_own_description(path).task == name


def test_the_options_on_the_page_exist():
    options = {name for param in redistill.params for name in param.opts}
    assert {"--despite-baselines", "--with-test"} <= options
