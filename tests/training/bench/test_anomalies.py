"""The anomaly benchmark: thresholds, recall, delay, chance; labels of real recordings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from training.bench.anomalies import (
    Labelled,
    compare_detectors,
    count_alarms,
    find_threshold,
    judge,
    main,
    read_labels,
)
from training.bench.ledger import read_lines
from training.datasets.dummy_series import make_dummy_series
from training.errors import DataSetError

NAN = float("nan")


def test_an_alarm_stands_for_a_while() -> None:
    scores = np.array([NAN, 2, 2, 2, 2, 2, 0, 2])
    assert count_alarms(scores, 1, stands=3) == 3
    assert count_alarms(scores, 2, stands=3) == 0


def test_the_threshold_allows_as_many_alarms_as_wanted_and_no_more() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.normal(0, 1, 2000) for _ in range(3)]
    for allowed in (0, 10, 200):
        threshold = find_threshold(parts, allowed)
        assert sum(count_alarms(part, threshold) for part in parts) <= allowed
        lower = max(v for part in parts for v in part[part < threshold])
        lowered = sum(count_alarms(part, np.nextafter(lower, -np.inf)) for part in parts)
        assert lowered > allowed
    with pytest.raises(DataSetError, match="has a score"):
        find_threshold([np.array([NAN])], 1)


def test_recall_delay_and_chance_by_hand() -> None:
    scores, clean = np.zeros(60), np.zeros(60)
    scores[12] = clean[12] = 2  # an alarm that comes without the fault too
    scores[33] = 2
    scores[57] = 2  # long after the last fault
    faults = [Labelled("step", 10, 15), Labelled("step", 30, 35), Labelled("spike", 45, 46)]
    found = judge([(scores, faults)], [clean], 1.0)
    assert found["step"] == {"faults": 2, "recall": 1.0, "chance": 0.5, "delay": 2.5}
    assert found["spike"] == {"faults": 1, "recall": 0.0, "chance": 0.0}
    assert "chance" not in judge([(scores, faults)], None, 1.0)["step"]


def test_a_detector_that_knows_the_faults_finds_all_and_a_blind_one_none() -> None:
    data = make_dummy_series()
    originals = [rows.astype(np.float64) for rows in data.series]

    def knows(readings: np.ndarray) -> np.ndarray:
        """Whether a reading is none of the recording."""
        known = {tuple(row) for rows in originals for row in rows.astype(np.float32).tolist()}
        return np.array([float(tuple(row) not in known) for row in readings.tolist()])

    detectors = {"knows": knows, "blind": lambda readings: np.zeros(len(readings))}
    lines = compare_detectors(data, detectors, history=data.period, rates=[1.0], seeds=[0])
    by_name = {line["detector"]: line for line in lines}
    assert by_name["knows"]["kinds"]
    assert all(row["recall"] == 1 for row in by_name["knows"]["kinds"].values())
    assert all(row["chance"] == 0 for row in by_name["knows"]["kinds"].values())
    assert all(row["recall"] == 0 for row in by_name["blind"]["kinds"].values())
    assert by_name["knows"]["false_alarms_on_test"] == 0


def test_labels_of_recordings_are_rows_of_their_device(tmp_path: Path) -> None:
    data = make_dummy_series()
    times = data.times_ms[0]
    file = tmp_path / "labels.csv"
    file.write_text(
        f"device,start,end,kind\n{data.devices[0]},{times[5]},{times[9]},leak\n", encoding="utf-8"
    )
    assert read_labels(file, data) == {data.devices[0]: [Labelled("leak", 5, 9)]}
    file.write_text("device,start,end\nnobody,0,1\n", encoding="utf-8")
    with pytest.raises(DataSetError, match="nobody"):
        read_labels(file, data)
    file.write_text(f"device,start,end\n{data.devices[0]},9,5\n", encoding="utf-8")
    with pytest.raises(DataSetError, match="ends before it starts"):
        read_labels(file, data)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataSetError, match="cannot read the labels"):
        read_labels(file, data)


def test_labelled_faults_outside_of_the_test_part_are_not_judged() -> None:
    data = make_dummy_series()
    name, (_, validation, test) = data.devices[0], data.borders[0]
    labels = {
        name: [Labelled("leak", validation + 3, validation + 6), Labelled("leak", 5, 9)],
    }
    (line,) = compare_detectors(
        replace(data),
        {"always": lambda readings: np.arange(len(readings), dtype=np.float64)},
        history=data.period,
        rates=[1.0],
        labels=labels,
    )
    assert validation + 6 <= test
    assert line["kinds"]["leak"]["faults"] == 1


def test_the_command_prints_and_writes_a_line_for_every_detector(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="needs scikit-learn: pip install 'kpstream[training]'")
    results = tmp_path / "out" / "anomalies.jsonl"
    words = ["run", "--data", str(tmp_path), "--set", "dummy-forecast", "--results", str(results)]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    lines = read_lines(results)
    assert {line["detector"] for line in lines} == {
        "seasonal naive",
        "isolation forest",
        "matrix profile",
    }
    assert "false alarms a day" in done.output
    written = CliRunner().invoke(main, ["report", "--results", str(results)])
    assert written.exit_code == 0, written.output
    table = results.with_suffix(".md").read_text()
    assert "one false alarm a day and device" in table
    assert "one false alarm a week and device" in table
    (row,) = [line for line in lines if line["detector"] == "matrix profile"][:1]
    spike = row["kinds"]["spike"]
    assert f"{spike['recall']:.2f} ({spike['chance']:.2f})" in table
    none = CliRunner().invoke(main, ["report", "--results", str(tmp_path / "none.jsonl")])
    assert none.exit_code == 2
    assert "training.bench.anomalies run" in none.output
    wrong = CliRunner().invoke(main, ["run", "--data", str(tmp_path), "--set", "ETTh1"])
    assert wrong.exit_code == 2
    assert "ETT" in wrong.output
