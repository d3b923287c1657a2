"""Sensors that are worn otherwise: the turns are turns, and the figures on the page hold."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

from models.artifact import read_artifact
from models.session import Student
from models.zoo import zoo_path
from tests.bench.mounting import WAYS, measure
from training.bench.turns import (
    TURNS_DEG,
    macro_f1_worn,
    tilted,
    turned,
    vertical_of,
)
from training.starters.build import read_data

pytestmark = pytest.mark.needs_training
PAGE = Path(__file__).parents[3] / "docs" / "starter-students.md"


def standing(count: int = 40) -> np.ndarray:
    """Windows of body acceleration, turn rate and acceleration with gravity along x."""
    windows = np.random.default_rng(1).normal(0, 0.1, (count, 64, 9)).astype(np.float32)
    windows[:, :, 6] += 1.0
    return windows


@pytest.mark.parametrize("angle", [0, 15, 90, 180])
def test_a_turn_keeps_the_vertical_and_every_length(angle: int) -> None:
    windows = standing()
    found = turned(windows, angle)
    np.testing.assert_allclose(vertical_of(found), vertical_of(windows), atol=0.01)
    before, after = (np.linalg.norm(w.reshape(40, 64, 3, 3), axis=3) for w in (windows, found))
    np.testing.assert_allclose(after, before, atol=1e-5)
    assert np.allclose(found, windows, atol=1e-5) == (angle == 0)


@pytest.mark.parametrize("angle", [15, 90, 180])
def test_a_tilt_moves_the_vertical_by_its_angle(angle: int) -> None:
    windows = standing()
    felt = tilted(windows, angle)[:, :, 6:].mean(axis=1)
    cosine = felt @ vertical_of(windows) / np.linalg.norm(felt, axis=1)
    np.testing.assert_allclose(cosine, np.cos(np.radians(angle)), atol=0.05)


@pytest.mark.needs_data
@pytest.mark.parametrize("name", ["har-waist", "har-wrist"])
def test_the_figures_on_the_page_hold(name: str, data_dir: Path) -> None:
    test = read_data(name, data_dir, with_test=True).test
    assert test is not None
    student = Student(read_artifact(zoo_path(name)))
    for word, change in (("turned", turned), ("tilted", tilted)):
        (row,) = re.findall(rf"^\| {name}, {word} \|(.+)$", PAGE.read_text(), flags=re.M)
        said = [tuple(map(float, pair)) for pair in re.findall(r"([\d.]+) \(([\d.]+) %\)", row)]
        assert len(said) == len(TURNS_DEG)
        for angle, (f1, wrong) in zip(TURNS_DEG, said, strict=True):
            found = macro_f1_worn(student, change(test.windows, angle), test.labels)
            assert found[0] == pytest.approx(f1, abs=0.0011)
            assert 100 * found[1] == pytest.approx(wrong, abs=0.11)


@pytest.mark.needs_data
@pytest.mark.parametrize("way", WAYS)
def test_the_figures_of_mounting_hold(way: str, data_dir: Path) -> None:
    (row,) = re.findall(rf"^\| {way} \| ([\d.]+) \| ([\d.]+) \|$", PAGE.read_text(), flags=re.M)
    assert measure(data_dir, way) == pytest.approx(tuple(map(float, row)), abs=0.0011)
