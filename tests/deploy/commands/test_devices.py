"""`kpstream devices`: a note is made, listed and ended, for the device that was meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deploy.commands.devices import devices
from pipeline.console.notes import FILE_NAME
from pipeline.stores.resultsfile import ResultsFile
from tests.fakes.view import fill

NOW_MS = 1_800_000_000_000


@pytest.fixture
def state(tmp_path: Path) -> Path:
    results = ResultsFile(tmp_path / "results.db", now_ms=lambda: NOW_MS)
    fill(results, NOW_MS, minutes=1)
    results.close()
    return tmp_path


def run(state: Path, *words: str) -> Result:
    return CliRunner().invoke(devices, [*words, "--state-dir", str(state)])


def test_from_acknowledged_to_restored(state: Path) -> None:
    said = run(state, "acknowledge", "engine-02", "--by", "ada", "--note", "bearing ordered")
    assert said.output == "plant-1/engine-02/engine is acknowledged\n"
    listed = run(state, "list").output
    assert "plant-1/engine-02/engine  acknowledged 20" in listed
    assert listed.endswith("by ada: bearing ordered\n")
    assert run(state, "retire", "plant-1/engine-02").exit_code == 0
    said = run(state, "restore", "engine-02")
    assert said.output == "plant-1/engine-02/engine is no longer retired\n"
    assert run(state, "list").output == "no device is acknowledged or retired\n"
    assert run(state, "restore", "engine-02").exit_code == 1


def test_a_damaged_file_is_an_error_and_no_empty_list(state: Path) -> None:
    (state / FILE_NAME).write_bytes(b'{"x')
    for words in (["list"], ["restore", "engine-04"]):
        said = run(state, *words)
        assert said.exit_code == 1, words
        assert f"{state / FILE_NAME} are unusable (unexpected" in said.output, words
        assert "ignored" not in said.output, words
        assert said.output.strip().endswith("move the file away"), words


def test_a_device_without_a_score_is_named_in_full(state: Path) -> None:
    assert run(state, "retire", "plant-9/old/engine").exit_code == 0
    refused = run(state, "retire", "plant-9/old")
    assert refused.exit_code == 1
    assert "no score of plant-9/old; streams with scores" in refused.output


def test_a_folder_without_a_gateway_is_named(tmp_path: Path) -> None:
    refused = run(tmp_path, "retire", "engine-02")
    assert refused.exit_code == 1
    assert f"no results at {tmp_path / 'results.db'}" in refused.output
