"""Activities by examples, measured: 17 labels, each left out in turn, by people never learned from.

    python -m training.bench.examples --data DATA_FOLDER --cache CACHE_FOLDER

The students are those of `training.bench.namingcache`, which have never seen the label; the numbers
that a manifest would carry come from the code that ships (`training.uncertainty.anchors`), fitted
on held-out people without the label, and so do the anchors (`models.anchors`). The command appends
what is missing to docs/results/examples.jsonl and writes docs/results/examples.md.

- `personal`: the first windows of one person are the examples, and the same person's other windows
  are scored, without the one after the examples, which overlaps the last of them.
- `one`: they are the first windows of one person, and the windows of all other people are scored.
- `several`: they are spread over half of the people, and the windows of the others are scored.

`test` people are scored once, by the choice. Choices are made on `held_out`: each held-out person
in turn is scored by what the others give, five examples each time, and who gives the examples is
not in the sample either, as on a gateway. Each row has its recall at the margin that was found
without the label, and, so that rows can be compared at the same false alarms, the recall at the
margin that exactly 5 % of the scored known windows exceed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from torch import nn

from models.anchors import AnchorSpace, anchor_of
from models.artifact import read_artifact
from models.session import Student
from models.tasks.classes import ClassesDecoding
from models.tasks.classfeatures import FARTHEST, FEATURES, ClassFeatures, pack_classes, pack_vectors
from training.bench.examplesreport import write_examples_report
from training.bench.ledger import append_line, read_lines, read_results
from training.bench.naming import describe_benchmark, movement_of
from training.bench.namingcache import Left, cache_path, left_runs, parts_of
from training.datasets.benchmarks import read_benchmark
from training.datasets.contract import DataSet, fit_scaler
from training.distill import distill
from training.errors import DataSetError, exit_on_errors
from training.methods.plain import Plain
from training.naming.names import MOVEMENT, NamedClass, fit_named, fit_views
from training.recipes import Recipe
from training.scoring import scale_windows, score_scaled
from training.students.encoders import build_encoder
from training.uncertainty.anchors import (
    EXAMPLES,
    LabelledFeatures,
    fit_features,
    leave_people_out,
)
from training.windows import WindowSet

__all__ = ["COUNTS", "Trial", "draw_trials", "measure_label"]

RESULTS = Path("docs/results/examples.jsonl")
COUNTS = (1, 3, 5, 20)
"""Numbers of examples."""
_TEXT_WEIGHT = 1.0
"""Windows that the place predicted from the text counts for; of 0.5, 1, 2 and 5 the best one on
held-out people."""
_DRAWS = 10
_NESTED_DRAWS = 3
_SHARE = 0.05
_RETRAINED = {"UCI-HAR": 2, "WISDM": 4, "SPSW-watch": 2}
"""The label of each benchmark for which the student is trained again: the hardest by text."""

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Trial:
    """Examples, and the windows that are scored with them.

    Attributes:
        whom: `personal`, `one` or `several`.
        count: Number of examples.
        examples: Rows of the examples.
        scored: Rows that are scored.
    """

    whom: str
    count: int
    examples: Rows
    scored: Rows


def draw_trials(labels: Rows, groups: Rows, new: int, seed: int) -> Iterator[Trial]:
    """Draw the trials among the windows of some people; see the module.

    Args:
        labels: Classes `[n]`, in the order of time within a person.
        groups: People `[n]`.
        new: The label that is left out.
        seed: Seed of the draws.
    """
    random = np.random.default_rng(seed)
    mine = labels == new
    people = [int(group) for group in np.unique(groups[mine])]
    rows = {person: np.flatnonzero(mine & (groups == person)) for person in people}
    for count in COUNTS:
        for person, own in rows.items():
            if len(own) >= count + 3:
                used = own[: count + 1]
                scored = np.setdiff1d(np.flatnonzero(groups == person), used)
                yield Trial("personal", count, own[:count], scored)
            if len(own) >= count and len(people) > 1:
                yield Trial("one", count, own[:count], np.flatnonzero(groups != person))
        for _ in range(_DRAWS if len(people) > 1 else 0):
            givers = random.permutation(people)[: max(1, len(people) // 2)]
            examples = _spread([random.permutation(rows[int(giver)]) for giver in givers], count)
            if len(examples) == count:
                others = np.flatnonzero(~np.isin(groups, givers))
                yield Trial("several", count, examples, others)


def _spread(found: Sequence[Rows], count: int) -> Rows:
    """Rows of several people in turn, `count` in all or as many as there are."""
    longest = max(len(each) for each in found)
    turns = [int(each[turn]) for turn in range(longest) for each in found if turn < len(each)]
    return np.array(turns[:count], dtype=np.int64)


def measure_label(
    cached: Mapping[str, Any], named: NamedClass, text_scores: Mapping[str, Floats], seed: int
) -> tuple[dict[str, Any], ClassFeatures]:
    """Measure all ways to name one label.

    Args:
        cached: File of the cache, of a student without the label.
        named: The label by its text.
        text_scores: `held_out` and `test` to the scores of `named`, its margin subtracted.
        seed: Seed of the draws.

    Returns:
        `held_out` and `test` to whom, then number of examples, then way to `recall`, `misnamed` and
        `recall_at_share`; and the fitted part of the manifest.
    """
    new, seen = int(cached["left_out"]), [int(label) for label in cached["seen"]]
    learned, held_out = (_known(cached, part, seen) for part in ("learned", "held_out"))
    features = _fit(cached, learned, held_out)
    labels, groups = cached["test_labels"], cached["test_groups"]
    spaces = _spaces(cached, features, named)
    vectors = {
        way: space.vectors_of(cached["test_features"], cached["test_statistics"])
        for way, space in spaces.items()
    }
    test: _Found = {}
    for trial in draw_trials(labels, groups, new, seed):
        found = {
            way: _lead(space, trial, vectors[way][trial.examples], vectors[way][trial.scored])
            for way, space in spaces.items()
        }
        _add(test, trial, {"text": text_scores["test"][trial.scored], **found}, labels == new)
    nested = _measure_nested(cached, named, text_scores["held_out"], learned, held_out, seed)
    return {"held_out": _means(nested), "test": _means(test)}, features


_Found = dict[tuple[str, int], list[dict[str, dict[str, float]]]]


def _measure_nested(
    cached: Mapping[str, Any],
    named: NamedClass,
    text_scores: Floats,
    learned: LabelledFeatures,
    held_out: LabelledFeatures,
    seed: int,
) -> _Found:
    """Score each held-out person by what the others give, five examples each time."""
    random = np.random.default_rng(seed)
    labels, groups = cached["held_out_labels"], cached["held_out_groups"]
    is_new = labels == int(cached["left_out"])
    found: _Found = {}
    for person in np.unique(groups):
        features = _fit(cached, learned, held_out.of(held_out.groups != person))
        mine = np.flatnonzero(groups == person)
        own = mine[is_new[mine]]
        trials = []
        if len(own) >= EXAMPLES + 3:
            scored = np.setdiff1d(mine, own[: EXAMPLES + 1])
            trials.append(Trial("personal", EXAMPLES, own[:EXAMPLES], scored))
        givers = [
            rows
            for other in np.unique(groups)
            for rows in [np.flatnonzero(is_new & (groups == other))]
            if other != person and len(rows)
        ]
        if len(own):
            enough = [rows for rows in givers if len(rows) >= EXAMPLES]
            trials += [Trial("one", EXAMPLES, rows[:EXAMPLES], mine) for rows in enough]
            for _ in range(_NESTED_DRAWS if len(givers) > 1 else 0):
                two = [random.permutation(givers[at]) for at in random.permutation(len(givers))[:2]]
                examples = _spread(two, EXAMPLES)
                if len(examples) == EXAMPLES:
                    trials.append(Trial("several", EXAMPLES, examples, mine))
        people = np.unique(groups[groups != person])
        for trial in trials:
            known = ~np.isin(people[features.people()], groups[trial.examples])
            if not known.any() or is_new[trial.scored].all() or not is_new[trial.scored].any():
                continue
            ways = {"text": text_scores[trial.scored]}
            for way, space in _spaces(cached, _sample_of(features, known), named).items():
                vectors = space.vectors_of(
                    cached["held_out_features"], cached["held_out_statistics"]
                )
                ways[way] = _lead(space, trial, vectors[trial.examples], vectors[trial.scored])
            _add(found, trial, ways, is_new)
    return found


def _fit(
    cached: Mapping[str, Any], learned: LabelledFeatures, sample: LabelledFeatures
) -> ClassFeatures:
    decoding = ClassesDecoding(kind="classes", output="probabilities", labels=_names(cached))
    features, _ = fit_features(decoding, learned, sample, leave_people_out(sample))
    if features is None:
        msg = f"too few windows without {cached['labels'][cached['left_out']]} to place an anchor"
        raise DataSetError(msg)
    return features


def _names(cached: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(cached["labels"][label]) for label in cached["seen"])


def _spaces(
    cached: Mapping[str, Any], features: ClassFeatures, named: NamedClass
) -> dict[str, AnchorSpace]:
    names = _names(cached)
    bare: dict[str, Any] = {"statistics": None}
    if features.learned is not None:
        bare["learned"] = features.learned.model_copy(update={"statistics": ""})
    return {
        "prototype": AnchorSpace(names, features),
        "bare": AnchorSpace(names, features.model_copy(update=bare)),
        "unmet": AnchorSpace(names, features.model_copy(update={"learned": None})),
        "shrunk": _with_text(features, names, named, _TEXT_WEIGHT),
    }


def _sample_of(features: ClassFeatures, rows: NDArray[np.bool_]) -> ClassFeatures:
    """The features with some windows of the sample only."""
    statistics = features.statistics
    if statistics is not None:
        values = pack_vectors(statistics.sample()[rows] / FARTHEST)
        statistics = statistics.model_copy(update={"values": values})
    return features.model_copy(
        update={
            "sample": pack_vectors(features.sample_vectors()[rows]),
            "sample_classes": pack_classes(features.sample_labels()[rows]),
            "sample_people": pack_classes(features.people()[rows]),
            "statistics": statistics,
        }
    )


def _add(
    found: _Found, trial: Trial, ways: Mapping[str, Floats], is_new: NDArray[np.bool_]
) -> None:
    measured = {way: _measures(lead, is_new[trial.scored]) for way, lead in ways.items()}
    found.setdefault((trial.whom, trial.count), []).append(measured)


def _means(found: _Found) -> dict[str, Any]:
    means: dict[str, Any] = {}
    for (whom, count), trials in found.items():
        means.setdefault(whom, {})[str(count)] = {
            way: {key: float(np.mean([one[way][key] for one in trials])) for key in measured}
            for way, measured in trials[0].items()
        }
    return means


def _known(cached: Mapping[str, Any], part: str, seen: list[int]) -> LabelledFeatures:
    labels = cached[f"{part}_labels"]
    place = np.full(int(max(labels.max(), max(seen))) + 1, -1)
    place[seen] = np.arange(len(seen))
    keep = place[labels] >= 0
    return LabelledFeatures(
        cached[f"{part}_features"][keep],
        cached[f"{part}_probabilities"][keep],
        place[labels[keep]],
        cached[f"{part}_groups"][keep],
        cached[f"{part}_statistics"][keep],
    )


def _with_text(
    features: ClassFeatures, names: tuple[str, ...], named: NamedClass, weight: float
) -> AnchorSpace:
    """The space of the student that was extended by the label's text (`training.naming`)."""
    placed = named.placed[FEATURES]
    centre = placed.middle + placed.new @ np.linalg.inv(placed.whiten)
    centres = np.vstack([features.centre_vectors(), centre / np.linalg.norm(centre)])
    more = {"centres": pack_vectors(centres), "weights": (*features.weights, weight)}
    return AnchorSpace((*names, ""), features.model_copy(update=more))


def _lead(space: AnchorSpace, trial: Trial, examples: Floats, vectors: Floats) -> Floats:
    placed = space.place([anchor_of("", examples, is_shared=trial.whom != "personal")])
    return np.asarray(space.leads(vectors, placed)[:, 0] - placed.margins[0])


def _measures(lead: Floats, is_new: NDArray[np.bool_]) -> dict[str, float]:
    ordered = np.sort(lead[~is_new])[::-1]
    margin = ordered[int(_SHARE * len(ordered))]
    return {
        "recall": float(np.mean(lead[is_new] > 0)),
        "misnamed": float(np.mean(lead[~is_new] > 0)),
        "recall_at_share": float(np.mean(lead[is_new] > margin)),
    }


def _name_by_text(
    data: DataSet, one: Left, cached: Mapping[str, Any]
) -> tuple[NamedClass, dict[str, Floats]]:
    """The label by its description, as `kpstream models extend` names it, and its scores."""
    movement, statistics = movement_of(data, one)
    known, new = [int(label) for label in cached["seen"]], int(cached["left_out"])
    values = {
        part: {MOVEMENT: movement[part], FEATURES: cached[f"{part}_features"]}
        for part in ("learned", "held_out", "test")
    }
    of_known = cached["held_out_labels"] != new
    described = describe_benchmark(one.benchmark)
    named = fit_named(
        fit_views(values["learned"], cached["learned_labels"]),
        statistics,
        described.rows(known),
        described.rows([new]),
        {view: some[of_known] for view, some in values["held_out"].items()},
        cached["held_out_groups"][of_known],
        _SHARE,
    )
    scores = {part: named.score(values[part]) - named.margin for part in ("held_out", "test")}
    return named, scores


def _retrain(data: DataSet, one: Left, seed: int) -> dict[str, dict[str, float]]:
    """Train again with five windows of one test person added, as many times as a class has windows.

    Returns:
        `personal` to the measures on the same person's other windows.
    """
    parts = parts_of(data, one.recipe, one.label)
    learned, test = parts["learned"], parts["test"]
    trials = draw_trials(test.labels, test.groups, one.label, seed)
    trial = next(each for each in trials if (each.whom, each.count) == ("personal", 5))
    times = len(learned) // (data.num_answers - 1) // 5
    rows = np.tile(trial.examples, max(1, times))
    both = WindowSet(
        np.concatenate([learned.windows, test.windows[rows]]),
        np.concatenate([learned.labels, test.labels[rows]]),
        np.concatenate([learned.groups, test.groups[rows]]),
    )
    scaler = fit_scaler(data.scaling, both.windows)

    def build(recipe: Recipe, length: int, channels: int, counts: NDArray[np.int64]) -> nn.Module:
        return Plain(build_encoder(recipe, length, channels), recipe, len(counts))

    student = distill(one.recipe, both, scaler, data.num_answers, build).student
    if student is None:  # impossible without a deadline
        return {}
    scored = test.where(np.isin(np.arange(len(test)), trial.scored))
    found = score_scaled(student, scale_windows(scored.windows, scaler, None)).astype(np.float64)
    others = np.delete(found, one.label, axis=1).max(axis=1)
    return {"personal": _measures(found[:, one.label] - others, scored.labels == one.label)}


def _time(artifact: Path) -> dict[str, float]:
    """Time on one thread from windows to an anchor in force, in milliseconds, medians of 20."""
    student = Student(read_artifact(artifact))
    manifest = student.manifest
    decoding = manifest.decoding
    if not isinstance(decoding, ClassesDecoding) or decoding.features is None:
        msg = f"{artifact} has no features"
        raise DataSetError(msg)
    shape = (5, manifest.window.length, len(manifest.channels))
    windows = np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)

    def score() -> Any:
        return student.score_with_features(windows)[1]

    def space(known: ClassFeatures = decoding.features) -> AnchorSpace:
        return AnchorSpace(decoding.labels, known)

    features, ready = score(), space()

    def place() -> Any:
        return ready.place([anchor_of("new", ready.vectors(features, windows))])

    steps: dict[str, Callable[[], Any]] = {"score": score, "space": space, "place": place}
    found = {}
    for name, step in steps.items():
        times = []
        for _ in range(20):
            began = time.perf_counter()
            step()
            times.append(time.perf_counter() - began)
        found[name] = 1000 * float(np.median(times))
    return found


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--cache", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS)
@click.option("--seed", "seeds", type=int, multiple=True, default=(0, 1))
@click.option("--retrain/--no-retrain", default=True, help="Also train three students again.")
@click.option("--student", type=click.Path(path_type=Path), help="Artifact, to measure the time.")
@exit_on_errors("training.bench.examples")
def main(
    data: Path,
    cache: Path,
    results: Path,
    seeds: tuple[int, ...],
    retrain: bool,
    student: Path | None,
) -> None:
    """Measure what is missing and write the report."""
    done = {line["config"] for line in read_lines(results)}
    sets: dict[str, DataSet] = {}
    for one in left_runs(("none",), seeds):
        config = f"{one.benchmark} {one.label} {one.recipe.seed}"
        path = cache_path(cache, one)
        again = retrain and one.recipe.seed == 0 and _RETRAINED[one.benchmark] == one.label
        wanted = [config] + [f"retrained {config}"] * again
        if not path.exists() or not set(wanted) - done:
            continue
        if one.benchmark not in sets:
            sets = {one.benchmark: read_benchmark(one.benchmark, data)}
        read = sets[one.benchmark]
        line: dict[str, Any] = {"benchmark": one.benchmark, "seed": one.recipe.seed}
        line["label"] = str((read.labels or ())[one.label])
        if config not in done:
            with np.load(path) as file:
                cached = dict(file)
            found, features = measure_label(
                cached, *_name_by_text(read, one, cached), one.recipe.seed
            )
            line |= {"config": config, "row": "examples", **found}
            line["shares"] = [features.sample_share, features.shared_share]
            append_line(results, _rounded(line))
            click.echo(config)
        if again and f"retrained {config}" not in done:
            recipe = replace(one.recipe)
            line = {key: line[key] for key in ("benchmark", "seed", "label")}
            line |= {"config": f"retrained {config}", "row": "retrained"}
            began = time.process_time()
            line["test"] = _retrain(read, replace(one, recipe=recipe), one.recipe.seed)
            line["cpu_s"] = time.process_time() - began
            append_line(results, _rounded(line))
            click.echo(line["config"])
    if student is not None:
        name = read_artifact(student).manifest.name
        append_line(
            results,
            _rounded({"config": "time", "row": "time", "student": name, "ms": _time(student)}),
        )
    lines = read_results(results, f"python -m training.bench.namingcache --out {cache}")
    click.echo(write_examples_report(lines, results.with_suffix(".md")))


def _rounded(line: dict[str, Any]) -> dict[str, Any]:
    """The line with four decimals."""
    return dict(json.loads(json.dumps(line), parse_float=lambda text: round(float(text), 4)))


if __name__ == "__main__":
    main()
