"""The doctor reads the mapping files as a gateway that starts now would."""

from __future__ import annotations

import json
from pathlib import Path

from deploy.doctor.brokercheck import broker_check
from deploy.doctor.mappingchecks import check_mappings
from deploy.doctor.pipelinechecks import check_console
from ingest.settings import IngestSettings
from ingest.sparkplug.names import SparkplugMapping
from tests.deploy.doctor.test_command import http, states

PLUGS = """
topic = "tele/{device}/SENSOR"
site = "hall"
stream = "meter"
[channels]
power = "P"
"""
JOIN = "[join]\nmax_age_ms = 2000\nemit = 'power'\n"
SPARKPLUG = SparkplugMapping.model_validate({"stream": [{"name": "s", "metrics": {"a": "A"}}]})


def test_valid_files_are_listed_with_topics_and_time(tmp_path: Path) -> None:
    (tmp_path / "plugs.toml").write_text(PLUGS)
    (tmp_path / "meters.toml").write_text(PLUGS.replace("tele", "meter") + JOIN)
    found, filters = check_mappings(tmp_path, IngestSettings(), None)
    assert states(found) == {"mappings": "ok"}
    rows = {row.name: (row.value, row.meaning) for row in found[0].rows}
    assert rows["plugs"] == ("tele/{device}/SENSOR", "whole readings, with the time of receipt")
    assert rows["meters"][1].startswith("channels that come apart")
    assert filters == ["meter/+/SENSOR", "tele/+/SENSOR"]
    check = broker_check(IngestSettings(), mapped=filters)
    assert list(check.filters)[-2:] == filters


def test_every_fault_is_a_failure_and_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("nonsense")
    (tmp_path / "b.toml").write_text(PLUGS)
    (tmp_path / "c.toml").write_text(PLUGS + JOIN)
    (tmp_path / "d.toml").write_text(PLUGS.replace("tele/", "spBv1.0/"))
    found, _ = check_mappings(tmp_path, IngestSettings(mqtt_shared_group="g"), SPARKPLUG)
    failed = [each.text for each in found if each.state == "fail"]
    assert len(failed) == 4
    assert any("b.toml and c.toml both claim 'tele/+/SENSOR'" in text for text in failed)
    assert any("KPSTREAM_INGEST_SPARKPLUG both claim" in text for text in failed)
    assert any("KPSTREAM_INGEST_MQTT_SHARED_GROUP" in text for text in failed)
    assert all("kpstream map try" in (each.advice or "") for each in found if each.state == "fail")


def test_an_empty_folder_is_a_warning_and_a_missing_one_a_failure(tmp_path: Path) -> None:
    assert states(check_mappings(tmp_path, IngestSettings(), None)[0]) == {"mappings": "warn"}
    found, filters = check_mappings(tmp_path / "none", IngestSettings(), None)
    assert (states(found), filters) == ({"mappings": "fail"}, [])


def test_a_gateway_that_uses_a_former_version_says_so() -> None:
    in_force = {"plugs": {"is_former": True}, "doors": {"is_former": False}}
    faults = {"plugs": "not TOML", "meters": "meters.toml and doors.toml both claim", "": "no room"}
    parts = {"mappings": {"in_force": in_force, "faults": faults}}
    with http(200, json.dumps({"ready": True, "problems": [], "parts": parts})) as url:
        found = check_console(url, is_expected=True)
    assert states(found) == {"gateway": "ok", "mappings": "warn"}
    assert [each.text for each in found[1:]] == [
        "the gateway uses the last good version of plugs: not TOML",
        "the gateway does not read meters: meters.toml and doors.toml both claim",
        "no room",
    ]
