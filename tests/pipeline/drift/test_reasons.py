import json
from datetime import datetime, timezone

import pytest
from click.testing import CliRunner

from deploy.commands.drift import drift
from pipeline.drift.reasons import Reason, reasons_in_influx, reasons_in_results
from pipeline.stores.resultsfile import ResultsFile
from tests.fakes.drift import DRIFT_TEXT, drift_point

NOW = 1_900_000_000_000


def reason(stream: str, device: str = "*") -> Reason:
    site = "*" if device == "*" else "plant"
    return Reason("gate", site, device, stream, 3, NOW - 60_000, NOW, DRIFT_TEXT)


@pytest.fixture
def state(tmp_path):
    results = ResultsFile(tmp_path / "results.db")
    results.write(
        [
            drift_point("imu", 1, NOW),
            drift_point("imu", 1, NOW, channel="acc_x"),
            drift_point("imu", 1, NOW, device="anna"),
            drift_point("imu", 0, NOW, device="bo"),
            drift_point("engine", 1, NOW - 1_000),
            drift_point("engine", 0, NOW),
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
