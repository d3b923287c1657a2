"""A student that scales per operating condition, through a whole gateway, on engines of FD002.

The recorded engines are published by `kpstream replay cmapss --all-channels`: settings and 21
sensors, of which the student reads 17. Every stored score, including those of padded windows,
equals that of an offline evaluation, which is independent of the stream.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ingest.recordings import CMAPSS_SENSORS, CMAPSS_SETTINGS, read_cmapss
from models.artifact import read_artifact
from models.features import pad_front
from models.session import Student
from models.tasks.rul import RulScores
from models.zoo import zoo_path
from pipeline.console.queries import all_points
from pipeline.stores.resultsfile import ResultsFile
from tests.e2e.plant import Plant

pytestmark = [pytest.mark.needs_data, pytest.mark.needs_mosquitto, pytest.mark.slow]

NAME = "rul-engines"
DEVICES = 4
TOLERANCE = 125e-5  # 1e-5 of the range: windows are scored in batches of another size


def test_a_student_with_conditions_scores_a_replay_as_an_offline_evaluation(
    data_dir: Path, tmp_path: Path
) -> None:
    source = data_dir / "cmapss.zip"
    histories = read_cmapss(source, "FD002", "test")[:DEVICES]
    student = Student(read_artifact(zoo_path(NAME)))
    manifest = student.manifest
    names = (*CMAPSS_SETTINGS, *CMAPSS_SENSORS)
    columns = [names.index(channel) for channel in manifest.channel_names]
    assert {names[column] for column in columns} >= set(CMAPSS_SETTINGS)
    offline: dict[str, RulScores] = {}
    for history in histories:
        rows = np.concatenate([history.settings, history.sensors], axis=1)[:, columns]
        ends = range(manifest.window.min_readings, len(rows) + 1)
        length = manifest.window.length
        cut = np.stack([pad_front(rows[max(0, end - length) : end], length) for end in ends])
        scores = student.score(cut.astype(np.float32))
        assert isinstance(scores, RulScores)
        offline[f"FD002-{history.engine:03d}"] = scores
    windows = sum(len(scores) for scores in offline.values())

    with Plant(tmp_path, broker_kind="mosquitto", zoo=(NAME,)) as plant:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "deploy.cli", "replay", "cmapss", "--from", str(source)),
                *("--subset", "FD002", "--all-channels", "--devices", str(DEVICES)),
                *("--interval-ms", "100", "--readings-per-message", "5"),
                *("--mqtt", f"127.0.0.1:{plant.broker.port}"),
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        readings = sum(len(history.sensors) for history in histories)
        assert f"{readings} readings of {DEVICES} devices" in done.stdout
        plant.wait_until(lambda: plant.totals().get("windowed") == readings, "windowed")
        plant.wait_until(lambda: plant.totals().get("stored") == windows, "stored")
        totals = plant.totals()
        assert (totals["late"], totals["dead_lettered"], totals["unscored"]) == (0, 0, 0)
        model = next(m for m in (plant.get("api/v1/models") or {})["models"] if m["name"] == NAME)
        assert (model["stream"], model["version"]) == ("engine", 1)
        assert plant.stop_gateway() == 0

    results = ResultsFile(plant.results_path, read_only=True)
    points = all_points(results, "rul")
    results.close()
    streamed: dict[str, list[dict[str, float]]] = {}
    for point in sorted(points, key=lambda p: p["end_ms"]):
        assert point["model"] == NAME
        streamed.setdefault(point["device"], []).append(point)
    assert sorted(streamed) == sorted(offline)
    for device, want in offline.items():
        for field, values in (("rul", want.rul), ("rul_low", want.low), ("rul_high", want.high)):
            found = [point[field] for point in streamed[device]]
            np.testing.assert_allclose(found, values, atol=TOLERANCE, rtol=0)
    widths = np.concatenate([scores.high - scores.low for scores in offline.values()])
    assert np.ptp(widths) > 5  # the interval follows the score
