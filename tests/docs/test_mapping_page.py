"""docs/mapping.md is true: its commands run, its files are read, its tables are complete."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ingest.mapping import schema
from ingest.mapping.file import parse_mapping
from ingest.units import UNITS
from tests.docpages import NOT_RUN, says_why_not

PAGE = (Path(__file__).parents[2] / "docs" / "mapping.md").read_text(encoding="utf-8")
SHELL = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.M | re.S)
PRINTED = re.findall(r"^<!-- printed -->\n```\n(.*?)^```$", PAGE, re.M | re.S)
FILES = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.M | re.S)
FILES += [text for text in re.findall(r"toml <<'END'\n(.*?)^END$", PAGE, re.M | re.S)]
TABLES = [
    schema.MappingTable,
    schema.ChannelTable,
    schema.TimeTable,
    schema.CsvTable,
    schema.PackedTable,
    schema.JoinRule,
    schema.OverrideTable,
]


def test_commands_run_and_print_what_the_page_shows(tmp_path: Path) -> None:
    assert [block for block in SHELL if not says_why_not(block)] == []
    script = "set -euo pipefail\n" + "\n".join(b for b in SHELL if not b.startswith(NOT_RUN))
    env = {n: value for n, value in os.environ.items() if not n.startswith("KPSTREAM_")}
    env |= {"HOME": str(tmp_path), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    shown = [line for block in PRINTED for line in block.splitlines()]
    assert len(shown) >= 10
    assert [line for line in shown if line not in printed] == []


@pytest.mark.parametrize("text", FILES)
def test_mapping_file_on_the_page_is_valid(text: str) -> None:
    parse_mapping(text, "page")


def test_page_has_files() -> None:
    assert len(FILES) >= 5


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_every_key_is_on_the_page(table: type) -> None:
    fields = table.model_fields  # type: ignore[attr-defined]
    keys = {field.alias or name for name, field in fields.items()}
    rows = "\n".join(re.findall(r"^\| (`[^|]*`) \|", PAGE, re.M))
    own = {"csv", "packed", "time", "channels", "join"}  # tables, which have headings
    assert {key for key in keys - own if f"`{key}`" not in rows} == set()
    assert all(f"`[{key}]`" in PAGE or f"[{key}]" in PAGE for key in keys & own)


def test_every_unit_is_on_the_page_with_its_kind() -> None:
    rows = dict(re.findall(r"^\| ([a-z ]+) \| ((?:`[^`]+` ?)+) \|$", PAGE, re.M))
    shown = {unit: kind for kind, units in rows.items() for unit in re.findall(r"`([^`]+)`", units)}
    known = {unit: kind for unit, (kind, _, _) in UNITS.items()}
    assert {unit: shown.get(unit) for unit in known} == known


def test_forms_of_time_are_on_the_page() -> None:
    from ingest.mapping.times import EPOCH_FORMS, OFFSET_FORMS

    for form in (*EPOCH_FORMS, *OFFSET_FORMS, "iso8601", "strptime"):
        assert f"`{form}`" in PAGE
