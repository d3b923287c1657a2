"""Sensors that are worn otherwise: the figures of mounting on the page hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

from tests.bench.mounting import WAYS, measure

pytestmark = [pytest.mark.needs_training, pytest.mark.needs_data]
PAGE = Path(__file__).parents[3] / "docs" / "starter-students.md"


@pytest.mark.parametrize("way", WAYS)
def test_the_figures_of_mounting_hold(way: str, data_dir: Path) -> None:
    (row,) = re.findall(rf"^\| {way} \| ([\d.]+) \| ([\d.]+) \|$", PAGE.read_text(), flags=re.M)
    assert measure(data_dir, way) == pytest.approx(tuple(map(float, row)), abs=0.0011)
