"""Which text names best? Encoders and kinds of description, on the students of the naming cache.

    python -m training.bench.namingtexts --cache CACHE_FOLDER

Every text of `compared_texts` goes through the same two maps, which learn from the seen labels:

- `features`: the new class is placed among the class means of the student's features, by the
  likeness of the texts (`training.naming.placing`); nothing else is read, no measured movement.
- `mix`: the seen texts, mixed by the probabilities of the seen labels, against all texts (ConSE).

The margin is that of 5 % of held-out people's windows of seen labels. The text is chosen by the
recall on held-out people with the map `features`; the test people are scored by the same fits. It
writes docs/results/naming_texts.jsonl (one line per text, map and label: the mean over seeds and
draws) and a report.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from models.tasks.classfeatures import FEATURES
from training.bench.ledger import write_lines
from training.bench.namingcache import BENCHMARKS
from training.bench.openvocab import area_under_curve
from training.bench.stats import table_row, with_three_digits
from training.errors import LedgerError, exit_on_errors
from training.evaluate import harmonic_mean
from training.naming.names import Described, NamedClass, fit_margin, fit_named, fit_views
from training.teachers.anchors import control_anchors, read_anchors
from training.teachers.prompts import FACTS
from training.teachers.text_encoders import ENCODERS

__all__ = ["MAPS", "Text", "compared_texts", "measure_text", "name_label", "write_texts_report"]

RESULTS = Path("docs/results/naming_texts.jsonl")
MAPS = ("features", "mix")
SETS = {"UCI-HAR": "activity", "WISDM": "wisdm", "SPSW-watch": "spsw", "SPSW-phone": "spsw-pocket"}
KINDS = {
    "": "plain name",
    "-ensemble": "plain name, six sentences",
    "-described": "written by hand",
    "-rule": "by rule, sentences averaged",
    "-rule-whole": "by rule, one text",
}
_DRAWS = 5  # of each random control
_SHARE = 0.05
_PLAIN = "minilm"
_RANDOM = "random"
_MEASURES = ("recall", "misnamed", "seen", "harmonic", "area")

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Text:
    """One way to turn labels into vectors.

    Attributes:
        encoder: Key of `ENCODERS`, or the kind of a control (`control_anchors`).
        kind: Key of `KINDS`; empty for controls.
        draw: Number of the draw of a random control; None otherwise.
    """

    encoder: str
    kind: str = ""
    draw: int | None = None

    @property
    def name(self) -> str:
        """Name in the results: draws of one control share it."""
        return self.encoder + self.kind

    def vectors(self, benchmark: str) -> Vectors:
        """Read or make the vectors of all labels of a benchmark `[labels, width]`."""
        prompts = SETS[benchmark]
        if self.encoder == "facts":
            return np.array(FACTS[prompts], dtype=np.float32)
        if not self.kind.startswith("-rule"):
            prompts = prompts.removesuffix("-pocket")
        if self.encoder in ENCODERS:
            return read_anchors(prompts + self.kind, self.encoder).vectors
        return control_anchors(prompts, self.encoder, read_anchors(prompts), self.draw or 0).vectors


def compared_texts() -> Iterator[Text]:
    """List all texts and controls."""
    for kind in KINDS:
        for encoder in ENCODERS:
            if encoder != "minilm-cls":
                yield Text(encoder, kind)
    for control in ("facts", "attributes", "onehot"):
        yield Text(control)
    for control in ("permuted", _RANDOM):
        for draw in range(_DRAWS):
            yield Text(control, draw=draw)


def name_label(
    known: Vectors,
    new: Vectors,
    learned: Vectors,
    labels: NDArray[np.int64],
    held_out: Vectors,
    groups: NDArray[np.int64],
    share: float = _SHARE,
) -> NamedClass:
    """Place a new class by texts and features alone, and find its margin.

    Args:
        known: Texts of the seen labels `[seen, width]`, in ascending order of the labels.
        new: Text of the new one `[width]`.
        learned: Features of training windows `[n, d]`.
        labels: Their labels `[n]`.
        held_out: Features of windows of seen labels by held-out people `[m, d]`.
        groups: Their people `[m]`.
        share: Largest share of known windows that may get the new name.
    """
    return fit_named(
        fit_views({FEATURES: learned}, labels),
        [],
        Described(np.zeros((len(known), 0)), known.astype(np.float64)),
        Described(np.zeros((1, 0)), new[None].astype(np.float64)),
        {FEATURES: held_out},
        groups,
        share,
    )


def measure_text(
    vectors: Vectors, cached: Mapping[str, Any], kind: str
) -> dict[str, dict[str, float]]:
    """Measure one text for one left-out label.

    Args:
        vectors: Vectors of all labels `[labels, width]`.
        cached: File of `training.bench.namingcache`.
        kind: One of `MAPS`.

    Returns:
        `held_out` and `test` to `recall` (windows of the label that get its name), `misnamed`
        (others that do), `seen` (mean recall of the seen labels), `harmonic` (mean of recall and
        seen) and `area` (under the curve of the score; no margin).
    """
    seen, new = [int(label) for label in cached["seen"]], int(cached["left_out"])
    of_seen = cached["held_out_labels"] != new
    groups = cached["held_out_groups"][of_seen]
    if kind == "mix":
        scores = {part: _mix(vectors, cached, part) for part in ("held_out", "test")}
        margin = fit_margin(scores["held_out"][of_seen], groups, _SHARE)
    else:
        named = name_label(
            vectors[seen],
            vectors[new],
            cached["learned_features"],
            cached["learned_labels"],
            cached["held_out_features"][of_seen],
            groups,
        )
        margin = named.margin
        scores = {
            part: named.score({FEATURES: cached[f"{part}_features"]})
            for part in ("held_out", "test")
        }
    found = {}
    for part, some in scores.items():
        truth, is_new = cached[f"{part}_labels"], some > margin
        winners = np.array(seen)[cached[f"{part}_probabilities"].argmax(axis=1)]
        right = (winners == truth) & ~is_new
        old = float(np.mean([right[truth == label].mean() for label in seen]))
        recall = float(is_new[truth == new].mean())
        found[part] = {
            "recall": recall,
            "misnamed": float(is_new[truth != new].mean()),
            "seen": old,
            "harmonic": harmonic_mean(recall, old),
            "area": area_under_curve(some.astype(np.float32), truth == new),
        }
    return found


def _mix(vectors: Vectors, cached: Mapping[str, Any], part: str) -> NDArray[np.float64]:
    seen = [int(label) for label in cached["seen"]]
    texts = vectors.astype(np.float64) - vectors[seen].mean(axis=0)
    texts /= np.maximum(np.linalg.norm(texts, axis=1, keepdims=True), 1e-9)
    mixed = cached[f"{part}_probabilities"] @ texts[seen]
    mixed /= np.maximum(np.linalg.norm(mixed, axis=1, keepdims=True), 1e-9)
    near = mixed @ texts.T
    return np.asarray(near[:, int(cached["left_out"])] - near[:, seen].max(axis=1))


def _by_label(
    lines: list[dict[str, Any]], name: str, kind: str, part: str
) -> dict[tuple[str, str], dict[str, float]]:
    """Benchmark and label to measures."""
    return {
        (line["benchmark"], line["label"]): line[part]
        for line in lines
        if (line["text"], line["map"]) == (name, kind)
    }


def _averaged(found: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Average the measures of all seeds and draws."""
    return {
        part: {
            measure: round(float(np.mean([one[part][measure] for one in found])), 4)
            for measure in _MEASURES
        }
        for part in ("held_out", "test")
    }


def write_texts_report(lines: list[dict[str, Any]], path: Path) -> Path:
    """Write the tables of both maps; the texts are ordered by the recall on held-out people."""
    seeds = sorted({seed for line in lines for seed in line["seeds"]})
    text = [_HEAD.format(seeds=", ".join(map(str, seeds)), draws=_DRAWS)]
    names = dict.fromkeys(line["text"] for line in lines)
    for kind in MAPS:
        rows = []
        plain, random = (_by_label(lines, name, kind, "test") for name in (_PLAIN, _RANDOM))
        for name in names:
            kept, test = (_by_label(lines, name, kind, part) for part in ("held_out", "test"))
            choice = np.mean([one["recall"] for one in kept.values()])
            cells = [name, str(len(test)), f"{choice:.3f}"]
            cells.append(f"{np.mean([one['area'] for one in kept.values()]):.3f}")
            for measure in _MEASURES:
                cells.append(with_three_digits([one[measure] for one in test.values()]))
            for base in (random, plain):
                gains = [one["recall"] - base[key]["recall"] for key, one in test.items()]
                cells.append(with_three_digits(gains, signed=True))
            rows.append((choice, cells))
        text.append(f"## Map `{kind}`\n")
        text.append(table_row(_COLUMNS))
        text.append(table_row(["---"] * len(_COLUMNS)))
        text += [table_row(cells) for _, cells in sorted(rows, key=lambda row: -row[0])]
        text.append("")
    text.append("## What encoder and description are worth\n")
    text.append("Differences of test recall, paired by label; columns are the two maps.\n")
    text.append(table_row(["this", "minus that", *MAPS]))
    text.append(table_row(["---"] * (2 + len(MAPS))))
    for one, other in _DIFFERENCES:
        cells = [one, other]
        for kind in MAPS:
            mine, theirs = (_by_label(lines, name, kind, "test") for name in (one, other))
            gains = [found["recall"] - theirs[key]["recall"] for key, found in mine.items()]
            cells.append(with_three_digits(gains, signed=True))
        text.append(table_row(cells))
    text.append("")
    text.append("## By set, map `features`: recall on held-out people / on the test\n")
    benchmarks = list(dict.fromkeys(line["benchmark"] for line in lines))
    text.append(table_row(["text", *benchmarks]))
    text.append(table_row(["---"] * (1 + len(benchmarks))))
    for name in names:
        cells = [name]
        for benchmark in benchmarks:
            means = []
            for part in ("held_out", "test"):
                some = _by_label(lines, name, "features", part)
                own = [one["recall"] for key, one in some.items() if key[0] == benchmark]
                means.append(f"{np.mean(own):.2f}")
            cells.append(" / ".join(means))
        text.append(table_row(cells))
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
    return path


_DIFFERENCES = (
    *((f"smollm2-word{kind}", f"minilm{kind}") for kind in KINDS),
    *(
        (f"smollm2-word{kind}", f"smollm2-{other}{kind}")
        for other in ("mean", "last")
        for kind in ("", "-rule-whole")
    ),
    *((f"glove{kind}", f"minilm{kind}") for kind in ("", "-rule-whole")),
    *(
        (f"{encoder}-rule-whole", encoder + other)
        for encoder in ("minilm", "smollm2-word")
        for other in ("", "-ensemble", "-described")
    ),
    ("smollm2-word-rule-whole", "facts"),
)
_COLUMNS = [
    "text",
    "labels",
    "held-out recall (choice)",
    "held-out area",
    "recall",
    "known windows misnamed",
    "accuracy of the known labels",
    "harmonic mean",
    "area under the curve",
    "recall minus random",
    "recall minus `minilm`",
]
_HEAD = """# Which text names best

Written by `python -m training.bench.namingtexts`; the figures are those of `naming_texts.jsonl`.

Each of the 17 labels of UCI HAR, WISDM and SPSW (watch) is left out once; a student with a plain
head learns without it (`training.bench.namingcache`, seeds {seeds}), and the text alone describes
it. The margin lets 5 % of the windows of a new person with a known label get the new name, set on
held-out people. Texts are ordered by the recall on held-out people, the choice; the other columns
are test people. Mean over labels [95 % interval over labels, Student's t]; differences are paired
by label. `minilm` is the plain name (`the subject is walking`); endings: `-ensemble` six sentences
with the name, `-described` written by hand, `-rule` by rule, sentences averaged, `-rule-whole` the
same as one text. `facts` are the numbers behind the rule, `attributes` older numbers by hand.
Controls: `onehot`; `permuted` and `random`, {draws} draws each.
"""


@click.command()
@click.option("--cache", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS)
@click.option("--seed", "seeds", type=int, multiple=True, default=(0, 1))
@exit_on_errors("training.bench.namingtexts")
def main(cache: Path, results: Path, seeds: tuple[int, ...]) -> None:
    """Measure all texts and write lines and report."""
    files = [
        (benchmark, seed, file)
        for benchmark in BENCHMARKS
        for seed in seeds
        for file in sorted(cache.glob(f"{benchmark}-*-none-{seed}.npz"))
    ]
    if not files:
        msg = f"{cache} has no file of a plain student: run training.bench.namingcache first"
        raise LedgerError(msg)
    found: dict[tuple[str, str, str, str], list[dict[str, dict[str, float]]]] = {}
    for benchmark, _, file in files:
        with np.load(file) as opened:
            cached = dict(opened)
        label = str(cached["labels"][int(cached["left_out"])])
        for text in compared_texts():
            vectors = text.vectors(benchmark)
            for kind in MAPS:
                key = (text.name, kind, benchmark, label)
                found.setdefault(key, []).append(measure_text(vectors, cached, kind))
        click.echo(file.name)
    made = sorted({seed for _, seed, _ in files})
    lines = [
        {"config": "/".join(key)}
        | dict(zip(("text", "map", "benchmark", "label"), key, strict=True))
        | {"seeds": made, **_averaged(some)}
        for key, some in found.items()
    ]
    write_lines(results, lines)
    click.echo(write_texts_report(lines, results.with_suffix(".md")))


if __name__ == "__main__":
    main()
