"""The table of stress tests: rows that apply, figures of the gateway's own code, and its text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.artifact import read_artifact
from models.session import Student
from models.tasks.registry import find_task
from models.zoo import zoo_path
from training.datasets.dummy_series import make_dummy_series
from training.stress.material import (
    material_of_engines,
    material_of_series,
    material_of_windows,
)
from training.stress.measure import AS_IT_COMES, Measured, Row, measure_stresses
from training.stress.plan import Material, plan_stresses
from training.stress.table import Stressed, read_stressed, stress_table, write_stressed
from training.windows import WindowSet


def loaded(name: str) -> Student:
    return Student(read_artifact(zoo_path(name)))


def worn(count: int = 24) -> WindowSet:
    """Made-up windows of a phone at the waist: somebody stands, and walks, half overlapping."""
    rng, parts = np.random.default_rng(0), []
    for size in (0.01, 0.3):
        series = rng.normal(0, size, (64 * (count + 1), 9)).astype(np.float32)
        series[:, 6] += 1.0
        parts.append(np.stack([series[64 * i : 64 * i + 128] for i in range(count)]))
    labels = np.repeat([4, 0], count)
    return WindowSet(np.concatenate(parts), labels, labels.astype(np.int64))


def engines(student: Student, count: int = 4) -> Material:
    manifest = student.manifest
    middle = np.array(manifest.seen.middle, np.float32)  # type: ignore[union-attr]
    series = [np.tile(middle, (150, 1)) for _ in range(count)]
    labels = np.arange(149, -1, -1).clip(0, 125)
    length = manifest.window.length
    windows = WindowSet(
        np.stack([one[-length:] for one in series]), np.zeros(count, int), np.arange(count)
    )
    return material_of_engines([(one, labels) for one in series], windows, manifest)


def test_each_stress_applies_to_the_students_for_which_it_makes_sense() -> None:
    kinds = {
        name: {stress.kind.partition(",")[0] for stress in plan_stresses(loaded(name).manifest)}
        for name in ("har-waist", "rul-fd001", "forecast-transformer")
    }
    everywhere = {"noise", "offset of one channel", "all channels saturate", "readings lost"}
    assert all(everywhere <= found for found in kinds.values())
    of_vectors = {"turned about the vertical", "tilted"}
    assert of_vectors <= kinds["har-waist"]
    assert not of_vectors & (kinds["rul-fd001"] | kinds["forecast-transformer"])
    assert "other rate" not in kinds["rul-fd001"]


def test_a_student_of_an_older_version_cannot_be_tested() -> None:
    manifest = loaded("rul-fd001").manifest.model_copy(update={"seen": None})
    with pytest.raises(ValueError, match="before manifests told the range"):
        plan_stresses(manifest)


def test_the_row_without_a_stress_has_the_measure_of_the_task() -> None:
    student, windows = loaded("har-waist"), worn()
    rows = measure_stresses([student], material_of_windows(windows, student.manifest))
    first = rows[0]
    scores = student.score(windows.windows)
    wanted = find_task("activity").headline.compute(windows.labels, scores.values)
    assert first.kind == AS_IT_COMES
    assert first.found["har-waist"].measure == wanted
    assert all(0 <= row.scores for row in rows)
    zeros = [row for row in rows if row.kind.startswith("one channel zero")]
    assert {row.channel for row in zeros} <= set(student.manifest.channel_names)
    assert rows == measure_stresses([student], material_of_windows(windows, student.manifest))


def test_both_forms_of_a_student_get_the_same_windows_and_the_worst_channel_is_named() -> None:
    students = [loaded("rul-fd001"), loaded("rul-fd001-int8")]
    rows = measure_stresses(students, engines(students[0]))
    assert all(set(row.found) == {"rul-fd001", "rul-fd001-int8"} for row in rows)
    offsets = [row for row in rows if row.kind == "offset of one channel"]
    assert all(row.channel in students[0].manifest.channel_names for row in offsets)


def test_forecasts_are_measured_in_the_deviations_of_their_recording() -> None:
    student = loaded("forecast-transformer")
    room = make_dummy_series(seed=0, devices=1, readings=2000)
    names = student.manifest.channel_names
    rows = np.tile(room.series[0][:, :1], (1, len(names)))
    made = replace(room, channels=student.manifest.channels, series=(rows,))
    material, compute = material_of_series([made], student.manifest, 40)
    decoding: Any = student.manifest.decoding
    scores = student.score(material.plain.windows)
    found = compute(material.plain.truth, scores.values, material.plain.run)
    begin = made.borders[0][1]
    row = material.runs[0].truth[len(material.runs[0].truth) - 1]
    place = begin - student.manifest.window.length + len(material.runs[0].truth)
    scaled = made.standardised()[0][place : place + decoding.horizon]
    np.testing.assert_allclose(row, scaled, atol=1e-6)
    middle = (scores.values[..., 1] - made.mean) / made.deviation
    assert found == pytest.approx(np.mean((middle - material.plain.truth) ** 2), rel=1e-4)


def test_the_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    row = Row(
        "noise", "1%", "T24", 0.5, {"a": Measured(0.25, 0.5, None), "b": Measured(None, 0.0, None)}
    )
    other = replace(row, strength="3%", channel="", scores=1.0)
    stressed = Stressed("macro_f1", {"a": "1", "b": "2"}, 7, [row, other])
    path = tmp_path / "stress.json"
    assert read_stressed(path) == {}
    write_stressed({"a": stressed}, path)
    assert read_stressed(path) == {"a": stressed}
    line = stress_table(stressed).splitlines()[-1]
    assert line == (
        "| noise | 1%: T24 / 3% | 50 / 100 % | 0.250 / 0.250 | 50 / 50 % | - / - | - / - | - / - |"
    )
