"""Provisioning files: up to date, and valid for Grafana."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml as pyyaml
from hypothesis import given
from hypothesis import strategies as st

from dashboards.grafana import provision
from dashboards.grafana.provision import TOKEN_VARIABLE, URL_VARIABLE, files_of, write
from dashboards.grafana.provision import yaml as to_yaml
from dashboards.site import site_dashboards
from tests.fakes.grafana_checks import dashboard_flaws, rule_flaws

FOLDER = Path(provision.__file__).parent.parent
FILES = files_of(site_dashboards())


def test_committed_files_are_up_to_date() -> None:
    there = {
        path.relative_to(FOLDER).as_posix(): path.read_text(encoding="utf-8")
        for name in ("json", "provisioning")
        for path in (FOLDER / name).rglob("*")
        if path.is_file()
    }
    assert there == FILES, "out of date: python -m dashboards.grafana.provision"


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".json")])
def test_board_file_is_a_dashboard_of_its_uid(name: str) -> None:
    board = json.loads(FILES[name])
    assert dashboard_flaws(board) == []
    assert name == f"json/{board['uid']}.json"
    assert not {"id", "version"} & set(board), "Grafana assigns them"


def load(part: str) -> dict:
    page = pyyaml.safe_load(FILES[f"provisioning/{part}/kpstream.yaml"])
    assert page.pop("apiVersion") == 1
    return page


def test_data_source_file_has_its_secrets_from_the_environment() -> None:
    (source,) = load("datasources")["datasources"]
    assert source["type"] == "influxdb"
    assert source["access"] == "proxy"
    assert source["jsonData"]["version"] == "Flux"
    assert set(source["jsonData"]) >= {"organization", "defaultBucket"}
    assert source["secureJsonData"] == {"token": f"${TOKEN_VARIABLE}"}
    assert source["url"] == f"${URL_VARIABLE}"


def test_provider_file_puts_boards_and_alerts_into_one_folder() -> None:
    (provider,) = load("dashboards")["providers"]
    assert provider["type"] == "file"
    assert provider["options"]["path"].startswith("/")
    assert provider["folder"] == load("alerting")["groups"][0]["folder"]
    assert provider["allowUiUpdates"] is False


def test_alerting_file_holds_the_same_rules() -> None:
    site = site_dashboards()
    groups = load("alerting")["groups"]
    assert [group["name"] for group in groups] == [group.name for group in site.groups]
    for group, ours in zip(groups, site.groups, strict=True):
        assert re.fullmatch(r"\d+[smh]", group["interval"])
        for rule, want in zip(group["rules"], ours.rules, strict=True):
            assert rule == want.file_json(site.boards, source_uid=site.source.uid)
            links = {"dashboardUid", "panelId"}
            plain = {key: item for key, item in rule.items() if key not in links}
            more = {"orgID": 1, "folderUID": "f", "ruleGroup": group["name"]}
            assert rule_flaws(plain | more) == []


def test_files_contain_no_accidental_environment_variable() -> None:
    for name, text in FILES.items():
        if name.startswith("provisioning/"):
            found = set(re.findall(r"\$\S*", text))
            assert found <= {f'${URL_VARIABLE}"', f'${TOKEN_VARIABLE}"'}, name


def test_a_second_write_touches_nothing(tmp_path: Path) -> None:
    assert len(write(FILES, tmp_path)) == len(FILES)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert write(FILES, tmp_path) == []
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    changed = tmp_path / "json" / "kpstream-fleet.json"
    changed.write_text("{}")
    assert write(FILES, tmp_path) == [changed]


TEXTS = st.text(st.characters(codec="utf-8")) | st.sampled_from(
    ["a: b", "- x", "# no", "no", "1", "", " a\nb", "a\n b\n", "a\n\nb", "|", "a\nb  ", "é\nü"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.from_regex(r"[a-zA-Z_]{1,8}", fullmatch=True), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["one", "two", "three"]), VALUES, min_size=1))
def test_yaml_reads_back_unchanged(value: dict) -> None:
    assert pyyaml.safe_load(to_yaml(value)) == value
