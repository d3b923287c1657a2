"""Labels of another set: what both have is transferred, what is new is named by its text."""

import numpy as np
import pytest

pytest.importorskip("torch")

from training.bench.namingacross import (
    SOURCES,
    Named,
    Source,
    measure_source,
    write_across_report,
)
from training.recipes import parse_table
from training.windows import WindowSet

STRENGTHS = {  # the labels of UCI HAR, whose texts describe them
    "walking": 1.0,
    "walking upstairs": 0.6,
    "walking downstairs": 1.6,
    "sitting": 0.05,
    "standing": 0.2,
    "lying": 0.02,
}
OTHERS = {  # the labels of WISDM
    "walking downstairs": 1.6,
    "jogging": 3.0,
    "sitting": 0.05,
    "standing": 0.2,
    "walking upstairs": 0.6,
    "walking": 1.0,
}


def _named(strengths, seed):
    random = np.random.default_rng(seed)
    labels = np.tile(np.arange(len(strengths)), 40)
    power = np.array(list(strengths.values()))[labels]
    windows = random.normal(size=(len(labels), 48, 3)) * power[:, None, None]
    people = np.arange(len(labels)) % 5
    made = WindowSet(np.abs(windows).astype(np.float32), labels, people)
    return Named(made, tuple(strengths))


@pytest.fixture(scope="module")
def lines():
    recipe = parse_table(
        {
            "task": "activity",
            "method": "none",
            "conv_channels": (8,),
            "kernels": (5,),
            "strides": (1,),
            "pooling": "mean_max",
            "feature_size": 8,
            "epochs": 30,
            "learning_rate": 1e-2,
            "average_decay": 0.5,
            "batch_size": 16,
            "dropout": 0.0,
        }
    )
    sets = {"UCI-HAR": _named(STRENGTHS, 0), "WISDM": _named(OTHERS, 1)}
    source = Source("UCI-HAR", "relative", ("WISDM",))
    return list(measure_source(source, recipe, sets))


def test_shared_labels_are_transferred_and_new_ones_named(lines):
    shared = {line["label"]: line["recall"] for line in lines if not line["text"]}
    assert set(shared) == set(STRENGTHS) - {"lying"}
    assert np.mean(list(shared.values())) > 0.5
    new = [line for line in lines if line["text"]]
    assert {line["label"] for line in new} == {"jogging"}
    assert all(0 <= line["recall"] <= 1 and 0 <= line["area"] <= 1 for line in new)


def test_the_report_has_every_text(lines, tmp_path):
    text = write_across_report(lines, tmp_path / "across.md").read_text()
    for line in lines:
        assert line["text"] in text
        assert line["label"] in text


def test_every_pair_of_sets_in_units_is_measured_and_wisdm_both_ways():
    pairs = [(source.name, target) for source in SOURCES for target in source.targets]
    assert len(pairs) == len(set(pairs)) == 12
