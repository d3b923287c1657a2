"""``kpstream dashboards``: output, files and exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deploy.cli import main
from tests.fakes.grafana import TOKEN, FakeGrafana

FLEET = "kpstream-fleet"


@pytest.fixture
def run(grafana: FakeGrafana, monkeypatch: pytest.MonkeyPatch):
    """Run the command against the stand-in."""
    monkeypatch.setenv("KPSTREAM_GRAFANA_URL", grafana.url)
    monkeypatch.setenv("KPSTREAM_GRAFANA_TOKEN", TOKEN)
    monkeypatch.setenv("KPSTREAM_GRAFANA_INFLUX_TOKEN", "influx-secret")

    def running(*args: str) -> Result:
        return CliRunner().invoke(main, ["dashboards", *args])

    return running


def test_push_lists_what_it_created_and_then_no_change(run) -> None:
    first = run("push")
    assert first.exit_code == 0, first.output
    lines = first.output.splitlines()
    assert lines[:2] == ["created   data source kpstream-influxdb", "created   folder kpstream"]
    assert f"created   board {FLEET}" in lines
    assert "created   alerts kpstream line" in lines
    second = run("push")
    assert second.exit_code == 0
    assert {line.split()[0] for line in second.output.splitlines()} == {"unchanged"}


def test_diff_exits_with_1_while_something_differs(run, grafana: FakeGrafana) -> None:
    before = run("diff")
    assert before.exit_code == 1
    assert "board kpstream-fleet: missing" in before.output
    run("push")
    same = run("diff")
    assert same.exit_code == 0
    assert same.output == "14 of 14 match the code\n"
    grafana.other_user_saves(FLEET, lambda board: board.update(title="Mine"))
    after = run("diff")
    assert after.exit_code == 1
    assert "differs (version 2 was saved by alice at" in after.output
    assert '-  "title": "Mine",' in after.output
    assert '+  "title": "kpstream: fleet",' in after.output
    assert len(after.output.splitlines()) < 20, "only the differences"


def test_push_refuses_to_overwrite_the_change_of_another_user_until_forced(
    run, grafana: FakeGrafana
) -> None:
    run("push")
    grafana.other_user_saves(FLEET, lambda board: board.update(title="Mine"))
    refused = run("push")
    assert refused.exit_code == 2
    assert "Nothing was written" in refused.output
    forced = run("push", "--force")
    assert forced.exit_code == 0
    assert f"updated   board {FLEET}" in forced.output.splitlines()


def test_settings_reach_boards_and_alerts(run, monkeypatch, grafana: FakeGrafana) -> None:
    monkeypatch.setenv("KPSTREAM_GRAFANA_RUL_CYCLES", "33")
    monkeypatch.setenv("KPSTREAM_GRAFANA_FOLDER", "plant-7")
    monkeypatch.setenv("KPSTREAM_GRAFANA_FOLDER_TITLE", "Plant 7")
    monkeypatch.setenv("KPSTREAM_GRAFANA_SOURCE", "plant-7-influxdb")
    monkeypatch.setenv("KPSTREAM_GRAFANA_INFLUX_BUCKET", "plant-7")
    monkeypatch.setenv("KPSTREAM_GRAFANA_INFLUX_HOURLY_BUCKET", "plant-7-hours")
    assert run("push").exit_code == 0
    assert grafana.folders["plant-7"]["title"] == "Plant 7"
    assert grafana.sources["plant-7-influxdb"]["jsonData"]["defaultBucket"] == "plant-7"
    rule = grafana.groups["plant-7", "kpstream machines"]["rules"][0]
    assert rule["data"][0]["datasourceUid"] == "plant-7-influxdb"
    assert rule["data"][-1]["model"]["conditions"][0]["evaluator"]["params"] == [33]
    assert "plant-7-hours" in str(grafana.boards["kpstream-device"][0]["model"])


def test_pull_writes_files_and_names_them(run, tmp_path: Path) -> None:
    run("push")
    pulled = run("pull", str(tmp_path))
    assert pulled.exit_code == 0
    assert str(tmp_path / "json" / f"{FLEET}.json") in pulled.output
    assert "12 files are new or changed" in pulled.output
    assert "0 files are new or changed" in run("pull", str(tmp_path)).output


def test_render_needs_no_grafana(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        main, ["dashboards", "render", str(tmp_path), "--boards-path", "/srv/boards"]
    )
    assert done.exit_code == 0
    assert (tmp_path / "json" / f"{FLEET}.json").is_file()
    provider = tmp_path / "provisioning" / "dashboards" / "kpstream.yaml"
    assert '"/srv/boards"' in provider.read_text()


def test_a_missing_token_is_an_error_with_advice(monkeypatch) -> None:
    done = CliRunner().invoke(main, ["dashboards", "diff"])
    assert done.exit_code == 2
    assert "KPSTREAM_GRAFANA_TOKEN is not set" in done.output
    assert "Service accounts" in done.output


def test_invalid_settings_are_named(monkeypatch) -> None:
    monkeypatch.setenv("KPSTREAM_GRAFANA_FOLDER", "a/b")
    done = CliRunner().invoke(main, ["dashboards", "diff"])
    assert done.exit_code == 2
    assert "KPSTREAM_GRAFANA_FOLDER: String should match pattern" in done.output


def test_output_contains_no_secrets(run, grafana: FakeGrafana) -> None:
    texts = [run("diff").output, run("push").output, run("diff").output]
    grafana.role = "Viewer"
    grafana.sources.clear()
    texts.append(run("push").output)
    assert TOKEN not in " ".join(texts)
    assert "influx-secret" not in " ".join(texts)
