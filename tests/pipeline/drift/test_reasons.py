import json
from datetime import datetime, timezone

import pytest
from click.testing import CliRunner

from deploy.commands.drift import drift
from pipeline.drift.reasons import Reason, reasons_in_influx, reasons_in_results
from pipeline.points.measurements import DRIFT
from pipeline.points.points import Point
from pipeline.stores.resultsfile import ResultsFile

NOW = 1_900_000_000_000


def point(stream: str, drifted: int, at_ms: int = NOW, device: str = "*", channel: str = "*"):
    site = "*" if device == "*" else "plant"
    tags = tuple(zip(DRIFT.tags, ("gate", site, device, stream, channel), strict=True))
    fields = (
        ("drifted", drifted),
        ("since_ms", (NOW - 60_000) * drifted),
        ("version", 3),
        ("windows", 1000),
        ("text", "60% of the windows are doubtful" if drifted else ""),
    )
    if channel != "*":
        fields = (("psi", 9.0), ("limit", 1.0), ("windows", 1000), ("drifted", drifted))
    return Point(DRIFT.name, tags, fields, at_ms * 1_000_000)


def reason(stream: str, device: str = "*") -> Reason:
    site = "*" if device == "*" else "plant"
    text = "60% of the windows are doubtful"
    return Reason("gate", site, device, stream, 3, NOW - 60_000, NOW, text)


@pytest.fixture
def state(tmp_path):
    results = ResultsFile(tmp_path / "results.db")
    results.write(
        [
            point("imu", 1),
            point("imu", 1, channel="acc_x"),
            point("imu", 1, device="anna"),
            point("imu", 0, device="bo"),
            point("engine", 1, NOW - 1_000),
            point("engine", 0),
        ]
    )
    yield tmp_path, results
    results.close()


def test_what_has_drifted_by_its_newest_judgement_is_told_streams_first(state):
    assert reasons_in_results(state[1]) == [reason("imu"), reason("imu", "anna")]


def test_what_was_judged_long_ago_is_left_out(state):
    assert reasons_in_results(state[1], NOW + 1) == []


def test_a_results_file_without_drift_has_no_reasons(tmp_path):
    results = ResultsFile(tmp_path / "results.db")
    assert reasons_in_results(results) == []
    results.close()


def test_influxdb_gives_the_same_reasons():
    class Client:
        def query(self, flux, params):
            assert params == {"bucket": "kpstream", "since_ns": 5_000_000}
            assert 'r._measurement == "drift"' in flux
            row = {"gateway": "gate", "site": "*", "device": "*", "stream": "imu", "channel": "*"}
            values = {"drifted": 1, "since_ms": NOW - 60_000, "version": 3, "text": "why"}
            at = datetime.fromtimestamp(NOW / 1000, timezone.utc)
            return [row | values | {"_time": at}, row | {"drifted": 0, "_time": at}]

    (found,) = reasons_in_influx(Client(), "kpstream", 5)
    assert (found.stream, found.judged_ms, found.text) == ("imu", NOW, "why")


def test_the_command_tells_the_streams_for_people_and_for_programs(state, monkeypatch):
    monkeypatch.setattr("ingest.clock.now_ms", lambda: NOW + 1_000)
    folder, results = state
    results.close()
    shown = CliRunner().invoke(drift, ["--state-dir", str(folder)])
    assert shown.exit_code == 0
    assert shown.output.splitlines() == [
        "stream imu: 60% of the windows are doubtful (student version 3, "
        "since 2030-03-17 17:45 UTC, seen by gate)",
        "stream imu of plant/anna: 60% of the windows are doubtful (student version 3, "
        "since 2030-03-17 17:45 UTC, seen by gate)",
    ]
    found = json.loads(CliRunner().invoke(drift, ["--state-dir", str(folder), "--json"]).output)
    assert [row["device"] for row in found] == ["*", "anna"]


def test_the_command_says_what_is_missing(tmp_path):
    nothing = CliRunner().invoke(drift, ["--state-dir", str(tmp_path)])
    assert nothing.exit_code == 1
    assert "no gateway has used this state folder" in nothing.output
    influx = CliRunner().invoke(drift, ["--influx"])
    assert influx.exit_code == 1
    assert "KPSTREAM_PIPELINE_INFLUX_URL" in influx.output
