"""Named across data sets: a student of one set names the labels of another from text alone.

    python -m training.bench.namingacross --data DATA_FOLDER

Windows are brought together by `training.bench.acrosswindows`. For each ordered pair:

- **transfer**: labels that both sets have, named by the student's own head; any other name is
  wrong, whether the other set has it or not.
- **by name**: labels that the source never had, one at a time, as `kpstream models extend` places
  them. The margin is that of 5 % of the source's held-out people; no label of the target is read.

Nothing is chosen here: text, map and settings come from the comparison inside the sets
(`training.bench.namingtexts`). One training per source and form; results are kept in
docs/results/naming_across.jsonl, so an interrupted command goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.manifest import Scaler
from models.tasks.classfeatures import FEATURES
from training.bench.acrosswindows import Form, common_windows
from training.bench.ledger import append_line, read_lines
from training.bench.namingtexts import Text, compared_texts, name_label
from training.bench.openvocab import area_under_curve
from training.bench.stats import table_row, with_three_digits
from training.datasets.benchmarks import read_benchmark
from training.datasets.contract import fit_scaler
from training.distill import distill
from training.errors import exit_on_errors
from training.methods.knowledge_pruning import normalise
from training.methods.plain import Plain
from training.recipes import Recipe, parse_table
from training.scoring import scale_windows
from training.students.encoders import build_encoder
from training.teachers.motions import find_motion
from training.windows import WindowSet, hold_out_groups

__all__ = ["SOURCES", "Named", "Source", "measure_source", "read_named", "write_across_report"]

RESULTS = Path("docs/results/naming_across.jsonl")
_TEXTS = (
    "smollm2-word-rule-whole",
    "smollm2-word-rule",
    "minilm-rule-whole",
    "minilm-rule",
    "minilm-described",
    "smollm2-word",
    "glove",
    "minilm",
    "facts",
    "random",
)
_IN_UNITS = ("UCI-HAR", "SPSW-phone", "SPSW-watch")
_BATCH = 512
_RECIPE = {
    "task": "activity",
    "method": "none",
    "student": "conv",
    "conv_channels": (32, 64, 64),
    "kernels": (7, 5, 5),
    "strides": (1, 2, 2),
    "pooling": "mean_max",
    "dropout": 0.3,
    "epochs": 15,
    "batch_size": 64,
}


@dataclass(frozen=True, slots=True)
class Source:
    """A set to learn from, the form of its windows, and the sets whose labels it names."""

    name: str
    form: Form
    targets: tuple[str, ...]


SOURCES = (
    *(
        Source(name, "physical", tuple(other for other in _IN_UNITS if other != name))
        for name in _IN_UNITS
    ),
    *(Source(name, "relative", ("WISDM",)) for name in _IN_UNITS),
    Source("WISDM", "relative", _IN_UNITS),
)


@dataclass(frozen=True, slots=True)
class Named:
    """Windows of a set in a common form, with the name of the motion of every label."""

    windows: WindowSet
    motions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Outputs:
    """Features `[n, d]` and probabilities `[n, labels]` of windows."""

    features: NDArray[np.float32]
    probabilities: NDArray[np.float32]


def measure_source(
    source: Source, recipe: Recipe, sets: Mapping[str, Named]
) -> Iterator[dict[str, Any]]:
    """Train on the source, name the windows of its targets; yields a line per label and text.

    Args:
        source: What to learn from and what to name.
        recipe: Recipe of the student.
        sets: Windows of the source and its targets.
    """
    own = sets[source.name]
    groups = hold_out_groups(own.windows.groups, recipe.hold_out, recipe.split_seed)
    learned, held_out = own.windows.without_groups(groups), own.windows.of_groups(groups)
    scaler = fit_scaler("zscore", learned.windows)

    def build(recipe: Recipe, length: int, channels: int, counts: NDArray[np.int64]) -> nn.Module:
        return Plain(build_encoder(recipe, length, channels), recipe, len(counts))

    student = distill(recipe, learned, scaler, len(own.motions), build).student
    if student is None:  # impossible without a deadline
        return
    known, kept = (_outputs(student, some, scaler) for some in (learned, held_out))
    for target in source.targets:
        other = sets[target]
        found = _outputs(student, other.windows, scaler)
        winners = np.array(own.motions)[found.probabilities.argmax(axis=1)]
        truth = np.array(other.motions)[other.windows.labels]
        is_shared = np.isin(truth, own.motions)
        line = {"source": source.name, "target": target, "form": source.form}
        for name in other.motions:
            if name in own.motions:
                recall = float(np.mean(winners[truth == name] == name))
                yield line | {"label": name, "text": "", "recall": recall}
        for text in compared_texts():
            if text.name not in _TEXTS:
                continue
            vectors = text.vectors(source.name)
            for place, name in enumerate(other.motions):
                if name in own.motions:
                    continue
                named = name_label(
                    vectors,
                    _vector_of(text, target, place),
                    known.features,
                    learned.labels,
                    kept.features,
                    held_out.groups,
                )
                scores = named.score({FEATURES: found.features})
                is_new = scores > named.margin
                yield line | {
                    "label": name,
                    "text": text.name,
                    "recall": float(np.mean(is_new[truth == name])),
                    "misnamed": float(np.mean(is_new[is_shared])),
                    "area": area_under_curve(scores.astype(np.float32), truth == name),
                }


def _vector_of(text: Text, target: str, place: int) -> NDArray[np.float32]:
    """Return the vector of a label that the source does not have; a control draws another one."""
    if text.draw is None:
        vector: NDArray[np.float32] = text.vectors(target)[place]
        return vector
    drawn = np.random.default_rng((text.draw, place, 1)).standard_normal(384)
    return np.asarray(drawn / np.linalg.norm(drawn), dtype=np.float32)


def _outputs(student: nn.Module, windows: WindowSet, scaler: Scaler) -> _Outputs:
    features, probabilities = [], []
    with torch.no_grad():
        for part in torch.split(scale_windows(windows.windows, scaler, None), _BATCH):
            features.append(normalise(student.encoder(part)).numpy())  # type: ignore[operator]
            probabilities.append(student(part).numpy())
    return _Outputs(np.concatenate(features), np.concatenate(probabilities))


def read_named(name: str, folder: Path, form: Form) -> Named:
    """Read all windows of a benchmark in a common form.

    Raises:
        DataSetError: The data are missing, or have no classes.
    """
    data = read_benchmark(name, folder)
    motions = [find_motion(label) for label in data.labels or ()]
    names = tuple(motion.names[0] for motion in motions if motion is not None)
    return Named(common_windows(data, form), names)


def write_across_report(lines: list[dict[str, Any]], path: Path) -> Path:
    """Write the tables: transfer by pair, then the labels that the source never had, by text."""
    parts = [_HEAD, "## Labels that both sets have\n"]
    parts.append(table_row(["source", "target", "form", "labels", "mean recall", "by label"]))
    parts.append(table_row(["---"] * 6))
    pairs = dict.fromkeys((line["source"], line["target"], line["form"]) for line in lines)
    for pair in pairs:
        own = [line for line in _of(lines, pair) if not line["text"]]
        means = _mean_by(own, "recall")
        shown = ", ".join(f"{key[-1]} {value:.2f}" for key, value in means.items())
        mean = f"{np.mean(list(means.values())):.2f}"
        parts.append(table_row([*pair, str(len(means)), mean, shown]))
    parts.append("\n## Labels that the source never had\n")
    columns = ["text", "labels", "recall", "shared windows misnamed", "area under the curve"]
    columns += ["area minus random", "recall minus random"]
    new = [line for line in lines if line["text"]]
    for title, chosen in (
        ("All pairs", new),
        ("Pairs in units (`physical`)", [one for one in new if one["form"] == "physical"]),
        ("Pairs with WISDM (`relative`)", [one for one in new if one["form"] == "relative"]),
    ):
        if not chosen:
            continue
        parts.append(f"**{title}**\n")
        parts += [table_row(columns), table_row(["---"] * len(columns))]
        random = [one for one in chosen if one["text"] == "random"]
        for name in _TEXTS:
            own = [one for one in chosen if one["text"] == name]
            cells = [name, str(len(_mean_by(own, "area")))]
            for measure in ("recall", "misnamed", "area"):
                cells.append(with_three_digits(list(_mean_by(own, measure).values())))
            for measure in ("area", "recall"):
                base = _mean_by(random, measure)
                gains = [value - base[key] for key, value in _mean_by(own, measure).items()]
                cells.append(with_three_digits(gains, signed=True))
            parts.append(table_row(cells))
        parts.append("")
    parts.append("**By pair and label**: recall / area\n")
    parts.append(table_row(["source", "target", "label", *_TEXTS]))
    parts.append(table_row(["---"] * (3 + len(_TEXTS))))
    areas = {name: _mean_by([one for one in new if one["text"] == name], "area") for name in _TEXTS}
    recalls = {
        name: _mean_by([one for one in new if one["text"] == name], "recall") for name in _TEXTS
    }
    for key in areas[_TEXTS[0]]:
        both = [f"{recalls[name][key]:.2f} / {areas[name][key]:.2f}" for name in _TEXTS]
        parts.append(table_row([*key, *both]))
    path.write_text("\n".join(parts) + "\n", encoding="utf-8")
    return path


def _of(lines: list[dict[str, Any]], pair: tuple[str, str, str]) -> list[dict[str, Any]]:
    return [line for line in lines if (line["source"], line["target"], line["form"]) == pair]


def _mean_by(lines: list[dict[str, Any]], measure: str) -> dict[tuple[str, str, str], float]:
    """Source, target and label to the mean over seeds and draws."""
    found: dict[tuple[str, str, str], list[float]] = {}
    for line in lines:
        key = (line["source"], line["target"], line["label"])
        found.setdefault(key, []).append(line[measure])
    return {key: float(np.mean(values)) for key, values in found.items()}


_HEAD = """# Named across data sets

Written by `python -m training.bench.namingacross`; the figures are those of `naming_across.jsonl`.

A student of one set, with a plain head, sees the windows of another one, both at 20 Hz, 2.4 s long
and without orientation (`training/bench/acrosswindows.py`: rates, units, places of wear). Labels
that both have are named by its head. Labels that it never had are placed by their text alone,
written for the place of wear of the target; the margin lets 5 % of the source's held-out people's
windows get the new name. All people of the target are scored, and nothing was chosen on them. Mean
over pairs and labels [95 % interval, Student's t]; pairs share sets, so they are not independent.
`random`: five draws of a random vector for each label, those of the source and the new one.
"""


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS)
@click.option("--seed", "seeds", type=int, multiple=True, default=(0, 1))
@exit_on_errors("training.bench.namingacross")
def main(data: Path, results: Path, seeds: tuple[int, ...]) -> None:
    """Make the missing trainings and write the report."""
    read = lru_cache(maxsize=len(_IN_UNITS) + 1)(lambda name, form: read_named(name, data, form))
    lines = read_lines(results)
    done = {line["config"] for line in lines}
    for seed in seeds:
        recipe = parse_table({**_RECIPE, "seed": seed, "split_seed": seed})
        for source in SOURCES:
            config = f"{source.name} {source.form} {seed}"
            if config in done:
                continue
            names = (source.name, *source.targets)
            sets = {name: read(name, source.form) for name in names}
            for line in list(measure_source(source, recipe, sets)):
                rounded = {
                    key: round(value, 4) if isinstance(value, float) else value
                    for key, value in line.items()
                }
                append_line(results, {"config": config, "seed": seed, **rounded})
            click.echo(config)
    click.echo(write_across_report(read_lines(results), results.with_suffix(".md")))


if __name__ == "__main__":
    main()
