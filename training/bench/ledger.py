"""The experiment ledger: which runs there are, which are done, and what they measured.

1. A **plan file** (`configs/bench-*.toml`) is flat: `benchmark`, `student_name`, `methods`,
   `seeds`, a recipe, and if need be `topic` (chapter of the report), `label_share` and `leave_out`
   (so many labels have no training example; one run for each choice). It stands for methods x
   seeds runs.
2. A **run** is one training; its configuration is one flat TOML again, and its digest names it.
3. The **results file** has one JSON line per finished run, appended when the run is finished. A
   run whose line is there is not done again; a line that is deleted is made again, with the same
   measures (times and the revision aside).
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
    "METHODS",
    "TOPICS",
    "Run",
    "append_line",
    "missing_runs",
    "read_lines",
    "read_plan",
    "shipped_plans",
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
"""Methods that train the student of the plan, and what they change in its recipe; prompts that
begin with `-` are added to those of the plan."""
CLASSICAL = ("ridge", "boosting", "constant")
"""Baselines on statistics of the window; the recipe gives them window, split and seed only."""

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
"""Chapters of the report, in their order."""


@dataclass(frozen=True, slots=True)
class Run:
    """One training of the ledger.

    Attributes:
        benchmark: a key of `training.datasets.benchmarks.BENCHMARKS`.
        student: name of the student, for people; its make is in the recipe.
        method: a key of `METHODS` or one of `CLASSICAL`.
        recipe: the complete recipe, method and seed included. Every seed draws other held-out
            groups, so that the spread over seeds holds the luck of the draw.
        table: the student of the plan, beside which the run stands in the report.
        topic: chapter of the report; no part of the run's identity.
        label_share: share of the windows of every class (RUL: of all) whose labels are there to
            learn from.
        unseen: labels that have no training example; see `training.bench.openvocab`.
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
        """The run as one flat TOML; what has its default is not in it."""
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
    """All runs of a plan file.

    Raises:
        RecipeError: not TOML, or an impossible recipe.
        LedgerError: an unknown benchmark or method, or no seeds.
    """
    table = read_table(path)
    try:
        benchmark, student = str(table.pop("benchmark")), str(table.pop("student_name"))
        methods, seeds = list(table.pop("methods")), list(table.pop("seeds"))
        topic, share = str(table.pop("topic", "main")), float(table.pop("label_share", 1.0))
        leave_out = int(table.pop("leave_out", 0))
    except (KeyError, TypeError) as exc:
        msg = f"{path}: a plan needs benchmark, student_name, methods and seeds ({exc})"
        raise LedgerError(msg) from exc
    known = (*METHODS, *CLASSICAL)
    for what, value, allowed in (
        ("benchmark", benchmark, tuple(BENCHMARKS)),
        *(("method", method, known) for method in methods),
        ("topic", topic, tuple(TOPICS)),
    ):
        if value not in allowed:
            msg = f"{path}: {what} is {value!r}, expected one of {', '.join(allowed)}"
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
    """The plan files of the repository, in the order of their names."""
    return sorted((Path(__file__).parent.parent / "configs").glob("bench-*.toml"))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The finished runs; none if there is no file yet.

    A last line without its end was being written when the power went: it does not count.

    Raises:
        LedgerError: a line that is no JSON object; the message names it.
    """
    if not path.exists():
        return []
    lines = []
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    for number, text in enumerate(whole.splitlines(), start=1):
        try:
            line = json.loads(text)
            line["config"]
        except (ValueError, TypeError, KeyError) as exc:
            msg = f"{path}, line {number} is no finished run: delete the line to do it again"
            raise LedgerError(msg) from exc
        lines.append(line)
    return lines


def append_line(path: Path, line: dict[str, Any]) -> None:
    """Append one finished run; on disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.read_bytes().endswith(b"\n"):
        whole, end, _ = path.read_text(encoding="utf-8").rpartition("\n")
        path.write_text(whole + end, encoding="utf-8")
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def missing_runs(runs: Sequence[Run], lines: Iterable[dict[str, Any]]) -> list[Run]:
    """The runs without a line, in their order."""
    done = {line["config"] for line in lines}
    return [run for run in runs if run.digest not in done]
