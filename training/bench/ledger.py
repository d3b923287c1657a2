"""The experiment ledger: planned runs, finished runs, and their measures.

1. A **plan file** (`configs/bench-*.toml`) is flat: `benchmark`, `student_name`, `methods`,
   `seeds`, a recipe, and optionally `topic` (chapter of the report), `label_share` and `leave_out`
   (number of labels without a training example; one run for each choice). It defines methods x
   seeds runs.
2. A **run** is one training. Its configuration is also one flat TOML file, and the digest of that
   file is its identity.
3. The **results file** has one JSON line per finished run, appended when the run finishes. A run
   that has a line is not repeated. Delete the line to repeat the run; its measures are the same,
   apart from times and the revision.

Other benchmarks keep results files of this form too. Every line has `config`, which identifies
what was measured: a digest as here, or words such as `UCI-HAR/WALKING/0`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.datasets.benchmarks import BENCHMARKS
from training.errors import LedgerError
from training.recipes import Recipe, format_recipe, parse_table, read_table
from training.teachers.prompts import PROMPTS

__all__ = [
    "CLASSICAL",
    "FORECAST_PLANS",
    "METHODS",
    "TAUGHT_PLANS",
    "TOPICS",
    "Run",
    "append_line",
    "missing_runs",
    "read_lines",
    "read_plan",
    "read_results",
    "shipped_plans",
    "write_lines",
]

METHODS: dict[str, dict[str, Any]] = {
    "none": {"method": "none"},
    "kp-text": {"method": "kp", "anchors": "text"},
    "kp-random": {"method": "kp", "anchors": "random"},
    "kp-onehot": {"method": "kp", "anchors": "onehot"},
    "kp-ordinal": {"method": "kp", "anchors": "ordinal"},
    "kp-permuted": {"method": "kp", "anchors": "permuted"},
    "ensemble": {"method": "ensemble"},
    "kp-described": {"method": "kp", "anchors": "text", "prompts": "-described"},
    "kp-cls": {"method": "kp", "anchors": "text", "prompts": "-cls"},
    "kp-centred": {"method": "kp", "anchors": "centred"},
    "kp-ordered": {"method": "kp", "anchors": "ordered"},
    "kp-ordered-random": {"method": "kp", "anchors": "ordered-random"},
    "kp-attributes": {"method": "kp", "anchors": "attributes"},
}
"""Methods that train the student of the plan, with their changes to its recipe; prompts that begin
with `-` are appended to those of the plan."""
CLASSICAL = ("ridge", "boosting", "constant")
"""Baselines on statistics of the window; they use only window, split and seed of the recipe."""

FORECAST_PLANS = "bench-forecast-"
"""Beginning of the names of plans of forecasts; see `training.bench.forecastplan`."""
TAUGHT_PLANS = "bench-forecast-teach-"
"""Beginning of the names of plans of forecasting students with teachers."""

TOPICS = {
    "main": "Benchmarks",
    "students": "Other students",
    "few": "Few engines, few people",
    "labels": "Few labels",
    "unseen": "Faults and conditions that training has not seen",
    "anchors": "Other anchors and other readouts of the text",
    "switches": "Switches of the method",
    "open": "Open vocabulary: activities without a training example",
    "bearings": "Bearings, one run to failure left out",
}
"""Chapters of the report, in order."""


@dataclass(frozen=True, slots=True)
class Run:
    """One training of the ledger.

    Attributes:
        benchmark: Key of `training.datasets.benchmarks.BENCHMARKS`.
        student: Display name of the student; the recipe defines the network.
        method: Key of `METHODS` or one of `CLASSICAL`.
        recipe: Complete recipe, including method and seed. Every seed draws other held-out groups,
            so the spread over seeds includes the luck of the draw.
        table: Student whose table in the report has this run as a row.
        topic: Chapter of the report; not part of the run's identity.
        label_share: Share of the windows of every class (of all windows where the answer is a
            number) that keep their labels.
        unseen: Labels without a training example; see `training.bench.openvocab`.
    """

    benchmark: str
    student: str
    method: str
    recipe: Recipe
    table: str
    topic: str = "main"
    label_share: float = 1.0
    unseen: tuple[int, ...] = ()

    @property
    def config(self) -> str:
        """The run as one flat TOML, without keys that have their default."""
        head = {"benchmark": self.benchmark, "student_name": self.student, "run": self.method}
        lines = [f'{key} = "{value}"\n' for key, value in head.items()]
        if self.label_share < 1:
            lines.append(f"label_share = {self.label_share!r}\n")
        if self.unseen:
            lines.append(f"unseen = {list(self.unseen)}\n")
        return "".join(lines) + format_recipe(self.recipe, changed_only=True)

    @property
    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 of `config`: the identity of the run."""
        return hashlib.sha256(self.config.encode("utf-8")).hexdigest()[:16]


def read_plan(path: Path) -> list[Run]:
    """Read all runs of a plan file.

    Raises:
        RecipeError: The file is not TOML, or its recipe is invalid.
        LedgerError: A benchmark, method or topic is unknown, or a key is missing.
    """
    table = read_table(path)
    try:
        benchmark, student = str(table.pop("benchmark")), str(table.pop("student_name"))
        methods, seeds = list(table.pop("methods")), list(table.pop("seeds"))
        topic, share = str(table.pop("topic", "main")), float(table.pop("label_share", 1.0))
        leave_out = int(table.pop("leave_out", 0))
    except (KeyError, TypeError) as exc:
        msg = f"{path}: a plan needs benchmark, student_name, methods and seeds ({exc} is missing)"
        raise LedgerError(msg) from exc
    known = (*METHODS, *CLASSICAL)
    for key, value, allowed in (
        ("benchmark", benchmark, tuple(BENCHMARKS)),
        *(("method", method, known) for method in methods),
        ("topic", topic, tuple(TOPICS)),
    ):
        if value not in allowed:
            msg = f"{path}: {key} is {value!r}, expected one of {', '.join(allowed)}"
            raise LedgerError(msg)
    recipe = parse_table({"task": BENCHMARKS[benchmark], **table})
    answers = len(PROMPTS.get(recipe.prompts or recipe.task, ()))
    return [
        Run(
            benchmark,
            student if method in METHODS else "statistics",
            method,
            _recipe_of(recipe, method, seed),
            student,
            topic,
            share,
            unseen,
        )
        for seed in seeds
        for method in methods
        for unseen in itertools.combinations(range(answers), leave_out)
    ]


def _recipe_of(recipe: Recipe, method: str, seed: int) -> Recipe:
    changes = dict(METHODS.get(method, {}))
    if str(changes.get("prompts", "")).startswith("-"):
        changes["prompts"] = (recipe.prompts or recipe.task) + changes["prompts"]
    return dataclasses.replace(recipe, **changes, seed=seed, split_seed=seed)


def shipped_plans() -> list[Path]:
    """List the plan files of the repository, ordered by name, without those of forecasts."""
    plans = (Path(__file__).parent.parent / "configs").glob("bench-*.toml")
    return sorted(plan for plan in plans if not plan.name.startswith(FORECAST_PLANS))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read the finished runs; none if there is no file yet.

    A last line without a newline is ignored, because its writing was interrupted.

    Raises:
        LedgerError: A line is not a finished run; the message names it.
    """
    if not path.exists():
        return []
    lines = []
    try:
        whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    except (OSError, UnicodeDecodeError) as exc:
        msg = f"{path} is no results file of this command: {exc}"
        raise LedgerError(msg) from exc
    for number, text in enumerate(whole.splitlines(), start=1):
        try:
            line = json.loads(text)
            line["config"]
        except (ValueError, TypeError, KeyError) as exc:
            msg = f"{path}, line {number} is not a finished run: delete the line to make it again"
            raise LedgerError(msg) from exc
        lines.append(line)
    return lines


def read_results(path: Path, made_by: str) -> list[dict[str, Any]]:
    """Read the finished runs for a report, as `read_lines`.

    Args:
        path: Results file.
        made_by: Command that makes the runs, for the message.

    Raises:
        LedgerError: There is none, or a line is not a finished run.
    """
    lines = read_lines(path)
    if not lines:
        msg = f"{path} has no finished run: make some with {made_by}"
        raise LedgerError(msg)
    return lines


def append_line(path: Path, line: dict[str, Any]) -> None:
    """Append one finished run; it is on disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.read_bytes().endswith(b"\n"):
        whole, end, _ = path.read_text(encoding="utf-8").rpartition("\n")
        path.write_text(whole + end, encoding="utf-8")
    with path.open("a", encoding="utf-8") as file:
        file.write(_encode(line))
        file.flush()
        os.fsync(file.fileno())


def write_lines(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    """Replace a whole results file; who reads it sees the old lines or the new ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.new")
    with temporary.open("w", encoding="utf-8") as file:
        file.writelines(_encode(line) for line in lines)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _encode(line: dict[str, Any]) -> str:
    return json.dumps(line, allow_nan=False) + "\n"


def missing_runs(runs: Sequence[Run], lines: Iterable[dict[str, Any]]) -> list[Run]:
    """Return the runs without a line, in order."""
    done = {line["config"] for line in lines}
    return [run for run in runs if run.digest not in done]
