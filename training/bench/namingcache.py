"""Students that have never seen one activity: what they give for every window, kept in files.

    python -m training.bench.namingcache --data DATA_FOLDER --out CACHE_FOLDER

For every benchmark and each of its labels a student learns without that label; everything that is
compared afterwards (text models, semantic maps, prototypes, margins) is computed from these files
and needs no further training. A file that exists is kept, so an interrupted command goes on.

`{benchmark}-{label}-{method}-{seed}.npz` contains:

| key | meaning |
|---|---|
| `labels` | names of all labels `[labels]` |
| `left_out` | index of the label without a training example |
| `seen` | indices of the other labels, the columns of the probabilities |
| `learned_*` | training people without the held-out ones; their windows of seen labels |
| `held_out_*` | held-out training people, windows of **all** labels: choices are made here |
| `test_*` | test people, windows of all labels: scored once |
| `*_features` | features of the student `[n, d]` float32 of length 1 |
| `*_probabilities` | of the seen labels `[n, labels - 1]` float32 |
| `*_statistics` | statistics of the raw windows `[n, 10 * channels]` (`statistics.BASELINE`) |
| `*_labels`, `*_groups` | label and person `[n]` |
| `table` | `kp-*` only: aligned anchors of all labels `[labels, d]`, times alpha |
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.bench.ledger import METHODS
from training.datasets.benchmarks import read_benchmark
from training.datasets.contract import DataSet, fit_scaler
from training.distill import distill
from training.errors import DataSetError, exit_on_errors
from training.methods.knowledge_pruning import normalise
from training.methods.open_vocabulary import OpenStudent, OpenVocabulary
from training.methods.plain import Plain
from training.recipes import Recipe, parse_table, read_table
from training.scoring import scale_windows
from training.students.encoders import build_encoder
from training.students.statistics import BASELINE, ArrayWindows
from training.students.upright import scaling_of
from training.teachers.anchors import anchors_of
from training.windows import WindowSet, hold_out_groups

__all__ = ["BENCHMARKS", "Left", "cache_path", "left_runs", "parts_of", "train_left"]

BENCHMARKS = {"UCI-HAR": "bench-uci-har", "WISDM": "bench-wisdm", "SPSW-watch": "bench-spsw-watch"}
"""Benchmarks with 17 labels in all, and the plans that their recipes come from."""
_EPOCHS = {"UCI-HAR": 12, "WISDM": 8, "SPSW-watch": 30}
_PLAN_KEYS = ("benchmark", "student_name", "methods", "seeds")
_BATCH = 512


@dataclass(frozen=True, slots=True)
class Left:
    """One training of the cache.

    Attributes:
        benchmark: Key of `BENCHMARKS`.
        method: `none`, `kp-random` or `kp-described` (`training.bench.ledger.METHODS`).
        label: Index of the label without a training example.
        recipe: Complete recipe; its seed also draws the held-out people.
    """

    benchmark: str
    method: str
    label: int
    recipe: Recipe


def left_runs(methods: tuple[str, ...], seeds: tuple[int, ...]) -> Iterator[Left]:
    """List all trainings: by seed, then method, then benchmark, then label."""
    for seed in seeds:
        for method in methods:
            for benchmark, plan in BENCHMARKS.items():
                recipe = _recipe_of(benchmark, plan, method, seed)
                count = len(anchors_of(recipe).vectors)
                for label in range(count):
                    yield Left(benchmark, method, label, recipe)


def parts_of(data: DataSet, recipe: Recipe, label: int) -> dict[str, WindowSet]:
    """Split a data set: `learned` (without the label), `held_out` and `test` (with all labels)."""
    if data.test is None:
        msg = f"{data.title} has no test set"
        raise DataSetError(msg)
    groups = hold_out_groups(data.train.groups, recipe.hold_out, recipe.split_seed)
    learned = data.train.without_groups(groups)
    return {
        "learned": learned.where(learned.labels != label),
        "held_out": data.train.of_groups(groups),
        "test": data.test,
    }


def train_left(data: DataSet, one: Left) -> dict[str, Any]:
    """Train without one label and score all windows; see the table of this module."""
    parts = parts_of(data, one.recipe, one.label)
    seen = [label for label in range(data.num_answers) if label != one.label]
    learned = parts["learned"]
    place = np.full(data.num_answers, -1)
    place[seen] = np.arange(len(seen))
    scaler = fit_scaler(scaling_of(one.recipe, data.scaling), learned.windows)

    def build(recipe: Recipe, length: int, channels: int, counts: NDArray[np.int64]) -> nn.Module:
        encoder = build_encoder(recipe, length, channels)
        if recipe.method == "none":
            return Plain(encoder, recipe, len(counts))
        vectors = anchors_of(recipe).vectors
        return OpenVocabulary(encoder, recipe, vectors, counts, [one.label])

    if one.recipe.method == "none":  # the head has no output for the label
        learned = dataclasses.replace(learned, labels=place[learned.labels])
    answers = len(seen) if one.recipe.method == "none" else data.num_answers
    student = distill(one.recipe, learned, scaler, answers, build).student
    if student is None:  # impossible without a deadline
        return {}
    found: dict[str, Any] = {
        "labels": np.array(data.labels),
        "left_out": one.label,
        "seen": np.array(seen),
    }
    if isinstance(student, OpenStudent):
        found["table"] = student.tables[0].numpy()
    for name, part in parts.items():
        features, probabilities = _outputs(student, scale_windows(part.windows, scaler, None), seen)
        found |= {
            f"{name}_features": features,
            f"{name}_probabilities": probabilities,
            f"{name}_statistics": ArrayWindows(part.windows).table(BASELINE),
            f"{name}_labels": part.labels,
            f"{name}_groups": part.groups,
        }
    return found


def cache_path(folder: Path, one: Left) -> Path:
    """Return the file of a training."""
    return folder / f"{one.benchmark}-{one.label}-{one.method}-{one.recipe.seed}.npz"


def _recipe_of(benchmark: str, plan: str, method: str, seed: int) -> Recipe:
    folder = Path(__file__).parent.parent / "configs"
    table = read_table(folder / f"{plan}.toml")
    table = {key: value for key, value in table.items() if key not in _PLAN_KEYS}
    changes = dict(METHODS[method])
    if str(changes.get("prompts", "")).startswith("-"):
        changes["prompts"] = table.get("prompts", "activity") + changes["prompts"]
    table |= changes | {"epochs": _EPOCHS[benchmark], "seed": seed, "split_seed": seed}
    return parse_table({"task": "activity", **table})


def _outputs(
    student: nn.Module, scaled: Tensor, seen: list[int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Compute features `[n, d]` of length 1 and probabilities of the seen labels."""
    features, probabilities = [], []
    with torch.no_grad():
        for batch in torch.split(scaled, _BATCH):
            hidden = normalise(student.encoder(batch))  # type: ignore[operator]
            if isinstance(student, OpenStudent):
                scores = torch.softmax(hidden @ student.tables[0][seen].T, dim=1)
            else:
                scores = student(batch)
            features.append(hidden.numpy())
            probabilities.append(scores.numpy())
    return np.concatenate(features), np.concatenate(probabilities)


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Cache folder.")
@click.option("--method", "methods", multiple=True, default=("none", "kp-described", "kp-random"))
@click.option("--seed", "seeds", type=int, multiple=True, default=(0, 1))
@exit_on_errors("training.bench.namingcache")
def main(data: Path, out: Path, methods: tuple[str, ...], seeds: tuple[int, ...]) -> None:
    """Make the missing files of the cache, one training each."""
    read = lru_cache(maxsize=1)(lambda name: read_benchmark(name, data))
    for one in left_runs(methods, seeds):
        path = cache_path(out, one)
        if path.exists():
            continue
        found = train_left(read(one.benchmark), one)
        out.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        with unfinished.open("wb") as file:
            np.savez(file, **found)
        unfinished.replace(path)
        click.echo(f"{path.name}")


if __name__ == "__main__":
    main()
