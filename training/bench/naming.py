"""Activities by name, measured: each of 17 labels left out in turn, by people never learned from.

    python -m training.bench.naming --data DATA_FOLDER --cache CACHE_FOLDER

It computes every row of `ROWS` from the files of `training.bench.namingcache`, appends what is
missing to docs/results/naming.jsonl, and writes docs/results/naming.md. No line needs a training.
Rows are compared, and choices made, on `held_out`; `test` is scored by the same fits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from models.tasks.classfeatures import FEATURES
from training.bench.ledger import append_line, read_lines, read_results
from training.bench.namingcache import Left, cache_path, left_runs, parts_of
from training.bench.namingreport import write_naming_report
from training.datasets.benchmarks import read_benchmark
from training.datasets.contract import DataSet, fit_scaler
from training.errors import exit_on_errors
from training.evaluate import harmonic_mean
from training.naming.names import (
    MOVEMENT,
    Described,
    NamedClass,
    fit_margin,
    fit_named,
    fit_views,
)
from training.scoring import scale_windows, score_scaled
from training.students.movement import Movement
from training.teachers.anchors import read_anchors
from training.teachers.facts import fact_table
from training.teachers.prompts import PROMPTS, SENTENCES_APART

__all__ = ["ROWS", "Row", "describe_benchmark", "measure_row", "movement_of"]

RESULTS = Path("docs/results/naming.jsonl")
_PROMPTS = {"UCI-HAR": "activity", "WISDM": "wisdm", "SPSW-watch": "spsw"}
_SHARE = 0.05
_BOTH = (MOVEMENT, FEATURES)


@dataclass(frozen=True, slots=True)
class Row:
    """One way to name.

    Attributes:
        title: Its name in the report.
        describe: Makes the descriptions of all labels from benchmark and seed; None for scores that
            read no description.
        views: Views that are used.
        method: Method of the cached students.
        novelty: Only the distance to the known classes counts.
        is_control: Whether it knows nothing about the new label.
    """

    title: str
    describe: Callable[[str, int], Described] | None
    views: tuple[str, ...] = _BOTH
    method: str = "none"
    novelty: bool = False
    is_control: bool = False


def describe_benchmark(
    benchmark: str, text: str = "-described", encoder: str = "minilm"
) -> Described:
    """Describe all labels of a benchmark.

    Args:
        benchmark: Key of `training.bench.namingcache.BENCHMARKS`.
        text: Ending of the set of prompts that the vectors encode.
        encoder: Name of the text encoder (`training.teachers.text_encoders`).
    """
    name = _PROMPTS[benchmark]
    sentences = [prompt.split(SENTENCES_APART) for prompt in PROMPTS[f"{name}-described"]]
    vectors = read_anchors(f"{name}{text}", encoder).vectors
    return Described(fact_table(sentences), vectors.astype(np.float64))


def _permuted(benchmark: str, seed: int) -> Described:
    found = describe_benchmark(benchmark)
    return found.rows(np.random.default_rng(100 + seed).permutation(len(found.facts)).tolist())


def _random(benchmark: str, seed: int) -> Described:
    found = describe_benchmark(benchmark)
    random = np.random.default_rng(100 + seed)
    return Described(random.random(found.facts.shape), random.standard_normal(found.vectors.shape))


def _one_hot(benchmark: str, seed: int) -> Described:
    found = describe_benchmark(benchmark)
    count, facts = found.facts.shape
    return Described(np.eye(count, facts), np.eye(count))


ROWS: dict[str, Row] = {
    "names": Row("facts and text", lambda name, seed: describe_benchmark(name)),
    "plain": Row("facts, text of the name alone", lambda name, seed: describe_benchmark(name, "")),
    "movement": Row(
        "measured movement alone", lambda name, seed: describe_benchmark(name), (MOVEMENT,)
    ),
    "features": Row(
        "text and features alone", lambda name, seed: describe_benchmark(name), (FEATURES,)
    ),
    "rule": Row(
        "facts, text by rule", lambda name, seed: describe_benchmark(name, "-rule", "minilm")
    ),
    "causal-rule": Row(
        "facts, text by rule, SmolLM2",
        lambda name, seed: describe_benchmark(name, "-rule", "smollm2-word"),
    ),
    "causal-whole": Row(
        "facts, text by rule as one, SmolLM2",
        lambda name, seed: describe_benchmark(name, "-rule-whole", "smollm2-word"),
    ),
    "aligned": Row("aligned anchors (until now)", None, method="kp-described"),
    "novelty": Row(
        "novelty without text",
        lambda name, seed: describe_benchmark(name),
        novelty=True,
        is_control=True,
    ),
    "permuted": Row("permuted descriptions", _permuted, is_control=True),
    "random": Row("random descriptions", _random, is_control=True),
    "onehot": Row("one-hot descriptions", _one_hot, is_control=True),
    "aligned-random": Row("aligned random anchors", None, method="kp-random", is_control=True),
}
"""Rows of the report; the first one is what `kpstream models extend` does."""


def measure_row(
    row: Row,
    one: Left,
    cached: Mapping[str, Any],
    movement: Mapping[str, NDArray[np.float32]],
    statistics: list[str],
) -> dict[str, dict[str, float]]:
    """Measure one row for one label.

    Args:
        row: The row.
        one: Training of the cache.
        cached: Its file.
        movement: `learned`, `held_out`, `test` to the statistics of movement of their windows.
        statistics: Their names.

    Returns:
        `held_out` and `test` to `recall` (share of the windows of the label that get its name),
        `misnamed` (share of the others that do), `seen` (mean over known labels of the share that
        still gets its right name) and `harmonic` (mean of recall and seen).
    """
    known, new = [int(label) for label in cached["seen"]], int(cached["left_out"])
    of_known = cached["held_out_labels"] != new
    groups = cached["held_out_groups"][of_known]
    scores: dict[str, NDArray[np.float64]] = {}
    if row.describe is None:
        for part in ("held_out", "test"):
            near = cached[f"{part}_features"] @ cached["table"].T
            scores[part] = near[:, new] - near[:, known].max(axis=1)
        margin = fit_margin(scores["held_out"][of_known], groups, _SHARE)
    else:
        values = {
            part: {
                view: movement[part] if view == MOVEMENT else cached[f"{part}_{view}"]
                for view in row.views
            }
            for part in ("learned", "held_out", "test")
        }
        rest = {view: some[of_known] for view, some in values["held_out"].items()}
        described = row.describe(one.benchmark, one.recipe.seed)
        named = fit_named(
            fit_views(values["learned"], cached["learned_labels"]),
            statistics,
            described.rows(known),
            described.rows([new]),
            rest,
            groups,
            _SHARE,
        )
        if row.novelty:
            named = _novelty(named, rest)
        scores = {part: named.score(values[part]) for part in ("held_out", "test")}
        margin = fit_margin(scores["held_out"][of_known], groups, _SHARE)
    return {
        part: _measures(
            scores[part] > margin,
            np.array(known)[cached[f"{part}_probabilities"].argmax(axis=1)],
            cached[f"{part}_labels"],
            new,
        )
        for part in ("held_out", "test")
    }


def _novelty(named: NamedClass, rest: Mapping[str, NDArray[np.float32]]) -> NamedClass:
    """Score by the distance to the nearest known class alone."""
    placed = {
        view: replace(one, weights=np.zeros_like(one.weights), reach=np.inf)
        for view, one in named.placed.items()
    }
    free = {
        view: NamedClass({view: one}, {view: 0.0}, {view: 1.0}, 0.0) for view, one in placed.items()
    }
    found = {view: one.score(rest) for view, one in free.items()}
    usual = {view: float(np.median(some)) for view, some in found.items()}
    unit = {view: float(np.quantile(some, 0.95)) - usual[view] for view, some in found.items()}
    return NamedClass(placed, usual, unit, 0.0)


def _measures(
    is_named: NDArray[np.bool_], winners: NDArray[np.int64], truth: NDArray[np.int64], new: int
) -> dict[str, float]:
    mine = truth == new
    right = (winners == truth) & ~is_named
    seen = float(np.mean([right[truth == label].mean() for label in np.unique(truth[~mine])]))
    recall = float(is_named[mine].mean()) if mine.any() else float("nan")
    return {
        "recall": recall,
        "misnamed": float(is_named[~mine].mean()),
        "seen": seen,
        "harmonic": harmonic_mean(recall, seen),
    }


@lru_cache(maxsize=1)
def _data(benchmark: str, folder: Path) -> DataSet:
    return read_benchmark(benchmark, folder)


def movement_of(data: DataSet, one: Left) -> tuple[dict[str, NDArray[np.float32]], list[str]]:
    """Measure the movement in all windows of a training: part to values, and their names."""
    parts = parts_of(data, one.recipe, one.label)
    learned = parts["learned"].windows
    scaler = fit_scaler(data.scaling, learned)
    spread = learned.reshape(-1, learned.shape[2]).astype(np.float64).std(axis=0)
    module = Movement(data.channels, scaler, data.length, data.rate_hz, spread)
    values = {
        name: score_scaled(module, scale_windows(part.windows, scaler, None))
        for name, part in parts.items()
    }
    return values, [statistic for _, statistic in module.names]


def _missing(seeds: tuple[int, ...], done: set[str]) -> Iterator[tuple[str, Left]]:
    runs = {
        method: list(left_runs((method,), seeds))
        for method in {row.method for row in ROWS.values()}
    }
    for place in range(len(runs["none"])):
        for name, row in ROWS.items():
            one = runs[row.method][place]
            if _identity(name, one) not in done:
                yield name, one


def _identity(name: str, one: Left) -> str:
    return f"{name} {one.benchmark} {one.label} {one.recipe.seed}"


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--cache", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS)
@click.option("--seed", "seeds", type=int, multiple=True, default=(0, 1))
@exit_on_errors("training.bench.naming")
def main(data: Path, cache: Path, results: Path, seeds: tuple[int, ...]) -> None:
    """Measure the missing rows and write the report."""
    done = {line["config"] for line in read_lines(results)}
    last: tuple[Any, ...] = ()
    missing = list(_missing(seeds, done))
    cached_runs = [run for run in missing if cache_path(cache, run[1]).exists()]
    if len(cached_runs) < len(missing):
        click.echo(
            f"{len(missing) - len(cached_runs)} rows are left out, because {cache} has no file "
            "for them: make it with python -m training.bench.namingcache",
            err=True,
        )
    for name, one in cached_runs:
        file = cache_path(cache, one)
        key = (one.benchmark, one.label, one.recipe.seed)
        if not last or last[0] != key:
            last = (key, movement_of(_data(one.benchmark, data), one))
        with np.load(file) as cached:
            found = measure_row(ROWS[name], one, dict(cached), *last[1])
            label = str(cached["labels"][one.label])
        line: dict[str, Any] = {
            "config": _identity(name, one),
            "row": name,
            "benchmark": one.benchmark,
            "label": label,
            "seed": one.recipe.seed,
        }
        for part, measures in found.items():
            line[part] = {key: _rounded(value) for key, value in measures.items()}
        append_line(results, line)
        click.echo(line["config"])
    lines = read_results(results, f"python -m training.bench.namingcache --out {cache}")
    click.echo(write_naming_report(ROWS, lines, results.with_suffix(".md")))


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 4)


if __name__ == "__main__":
    main()
