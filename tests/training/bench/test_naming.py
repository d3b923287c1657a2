"""The ledger of activities by name: what a row measures, and the report."""

import json

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

from training.bench.ledger import read_lines
from training.bench.naming import RESULTS, ROWS, describe_benchmark, measure_row
from training.bench.namingcache import BENCHMARKS, Left, left_runs
from training.bench.namingreport import macro, write_naming_report
from training.recipes import parse_recipe
from training.students.movement import INFLUENCES
from training.teachers.facts import FACTS

pytestmark = pytest.mark.needs_training

STATISTICS = ["power", "steps", "trend", "mean"]


def cached(rng):
    """Windows of UCI HAR's labels in views that follow their facts; standing is left out."""
    facts = describe_benchmark("UCI-HAR").facts
    felt = np.array([[fact in INFLUENCES[name] for name in STATISTICS] for fact in FACTS], float)
    vectors = describe_benchmark("UCI-HAR").vectors
    map_features = rng.standard_normal((vectors.shape[1], 8))
    movement, found = {}, {"seen": np.array([0, 1, 2, 3, 5]), "left_out": 4}
    for part, people in (("learned", 8), ("held_out", 4), ("test", 4)):
        labels = np.tile(np.repeat(np.arange(6), 20), people)
        groups = np.repeat(np.arange(people), 120)
        if part == "learned":
            groups, labels = groups[labels != 4], labels[labels != 4]
        noise = 0.1 * rng.standard_normal((len(labels), 4))
        movement[part] = (facts[labels] @ felt + noise).astype("f4")
        features = vectors[labels] @ map_features + 0.1 * rng.standard_normal((len(labels), 8))
        found |= {
            f"{part}_features": features.astype("f4"),
            f"{part}_labels": labels,
            f"{part}_groups": groups,
            f"{part}_probabilities": np.eye(5)[np.searchsorted([0, 1, 2, 3, 5], labels).clip(0, 4)],
        }
    return movement, found


def test_a_row_measures_the_left_out_label_and_the_others():
    movement, found = cached(np.random.default_rng(0))
    one = Left("UCI-HAR", "none", 4, parse_recipe('task = "activity"'))
    measures = {
        name: measure_row(ROWS[name], one, found, movement, STATISTICS)
        for name in ("names", "permuted")
    }
    assert measures["names"]["test"]["recall"] > 0.9
    assert measures["names"]["test"]["misnamed"] < 0.08
    assert measures["names"]["test"]["seen"] > 0.9
    assert measures["permuted"]["test"]["recall"] < 0.5


def test_the_cache_leaves_each_of_17_labels_out():
    runs = list(left_runs(("none",), (0,)))
    assert len(runs) == 17
    assert {one.benchmark for one in runs} == set(BENCHMARKS)


def test_the_report_is_written_from_the_lines(tmp_path):
    lines = read_lines(RESULTS)
    path = write_naming_report(ROWS, lines, tmp_path / "naming.md")
    assert path.read_text() == RESULTS.with_suffix(".md").read_text()
    own = [line for line in lines if line["row"] == "names"]
    assert len(macro(own, "test", "recall")) == 17
    assert json.dumps(own[0])
