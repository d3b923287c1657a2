"""One complete run: split, scale, distil, calibrate, export, and judge against the running student.

The held-out groups are drawn once from the recipe's split seed. The student never sees them; its
uncertainty is calibrated on them and students are compared on them. With `folds` every group is
held out once, by students that are thrown away: their scores calibrate and measure the recipe, and
the student that is kept learns from all groups, for the same number of passes. The official test
set is not touched here.
"""

from __future__ import annotations

import contextlib
import math
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

import training
from models.artifact import Artifact
from models.manifest import Draft, Lineage, Scaler, WindowShape, check_fit
from models.session import Student
from models.tasks.classes import ClassesDecoding, Unknown
from models.tasks.rul import RulDecoding
from training import evaluate
from training.datasets.contract import DataSet, fit_scaler
from training.distill import Distilled, Epoch, distill, fit_front
from training.errors import LeakageError, RecipeError
from training.export.artifact import export_artifact, score_raw, score_torch
from training.methods.contract import teacher_of
from training.recipes import Recipe, format_recipe, parse_recipe
from training.teachers.ensemble import teach
from training.teachers.prompts import MAX_RUL
from training.uncertainty.fit import Doubt, Unseen, calibrate, familiarity_of, score_unseen
from training.windows import WindowSet, hold_out_groups

__all__ = [
    "Candidate",
    "EpochReport",
    "check_comparable",
    "code_revision",
    "compare",
    "measure",
    "recipe_of",
    "train_candidate",
]


@dataclass(frozen=True, slots=True)
class EpochReport:
    """One point of the learning curve.

    Attributes:
        number: passes done, from 1; those of all folds count.
        epochs: passes of the whole run.
        loss: mean training loss of the pass.
        held_out: RMSE in cycles, or macro-F1, on the held-out groups; watched, never acted on.
            None while a student learns from all groups.
    """

    number: int
    epochs: int
    loss: float
    held_out: float | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A finished run.

    Attributes:
        artifact: the new student as written to disk and read back.
        held_out: the windows it has never seen; with `folds` all, each scored out of its fold.
        scored: the scores on them: `[n]` cycles or `[n, classes]`.
        metrics: the measures on them.
        seconds: computing time of the training loops.
    """

    artifact: Artifact
    held_out: WindowSet
    scored: NDArray[np.float32]
    metrics: dict[str, float]
    seconds: float


def train_candidate(
    data: DataSet,
    recipe: Recipe,
    name: str,
    folder: Path,
    *,
    command: str,
    on_epoch: Callable[[EpochReport], None] | None = None,
    on_student: Callable[[nn.Module, Scaler], None] = lambda student, scaler: None,
    deadline_s: float = math.inf,
) -> Candidate | None:
    """Train a student on all but the held-out groups and write its artifact.

    Args:
        data: the data set; its `test` is not looked at.
        recipe: the recipe.
        name: name of the student.
        folder: gets `last.pt` and `artifact/`; with `folds`, `fold-1/last.pt` and so on.
        command: the command line, for the lineage.
        on_epoch: called after every pass; the held-out windows are scored for it.
        on_student: called after every pass with the student as it is then, and its scaler; what
            it does cannot change the run.
        deadline_s: `time.monotonic()` at which no further pass is started.

    Returns:
        The candidate, or None when the deadline came first (call again to go on).

    Raises:
        TrainingError: the leaf says what is wrong; no artifact is written.
        ArtifactError: the gateway's checks refuse the student; no artifact is written.
    """
    run = _Run(data, recipe, folder, on_epoch, on_student, deadline_s)
    known: Unseen | None = None
    seen = held_out = data.train
    if recipe.folds:
        known = run.score_out_of_fold()
        if known is None:
            return None
    else:
        groups = hold_out_groups(data.train.groups, recipe.hold_out, recipe.split_seed)
        seen, held_out = data.train.without_groups(groups), data.train.of_groups(groups)
    scaler, done = run.distill(seen, None if recipe.folds else held_out, folder)
    if done.student is None:
        return None
    if known is None:
        known = score_unseen(data, recipe, done.student, scaler, seen, held_out)
    familiarity = familiarity_of(data, recipe, scaler, seen)
    student, scored, doubt = calibrate(data, done.student, familiarity, held_out, known)
    metrics = measure(data.task, held_out.labels, scored)
    draft = _draft(data, recipe, name, scaler, held_out, metrics, doubt, command)
    artifact = export_artifact(student, draft, held_out.windows, folder / "artifact")
    return Candidate(artifact, held_out, scored, metrics, run.seconds)


class _Run:
    """The trainings of one run: one, or one for each fold and one on everything."""

    def __init__(
        self,
        data: DataSet,
        recipe: Recipe,
        folder: Path,
        on_epoch: Callable[[EpochReport], None] | None,
        on_student: Callable[[nn.Module, Scaler], None],
        deadline_s: float,
    ) -> None:
        self.data = data
        self.recipe = recipe
        self.folder = folder
        self.on_epoch = on_epoch
        self.on_student = on_student
        self.deadline_s = deadline_s
        self.seconds = 0.0
        self.passes = 0

    def distill(
        self, seen: WindowSet, held_out: WindowSet | None, folder: Path, *, is_last: bool = True
    ) -> tuple[Scaler, Distilled]:
        """Train one student on `seen`; scaler and all else come from there too."""
        data, recipe = self.data, self.recipe
        scaler = fit_scaler(data.scaling, seen.windows)
        answers = MAX_RUL + 1 if data.labels is None else len(data.labels)
        front = fit_front(data.scaling, seen.windows)

        def report(epoch: Epoch) -> None:
            if self.on_epoch is not None:
                value = None
                if held_out is not None:
                    scored = score_torch(epoch.student, scaler, held_out.windows)
                    value = measure(data.task, held_out.labels, scored)[_headline(data.task)]
                number, epochs = self.passes + epoch.number, epoch.epochs * (recipe.folds + 1)
                self.on_epoch(EpochReport(number, epochs, epoch.loss, value))
            if is_last:
                self.on_student(epoch.student, scaler)

        taught = recipe.method == "ensemble"
        done = distill(
            recipe,
            seen,
            scaler,
            answers,
            front=front,
            hints=teach(recipe, seen, scaler, answers, front) if taught else None,
            folder=folder,
            on_epoch=report,
            deadline_s=self.deadline_s,
        )
        self.seconds += done.seconds
        self.passes += recipe.epochs
        return scaler, done

    def score_out_of_fold(self) -> Unseen | None:
        """All windows by students that have not seen their fold; None: out of time."""
        data, recipe = self.data, self.recipe
        names = np.random.default_rng(recipe.split_seed).permutation(np.unique(data.train.groups))
        if len(names) < recipe.folds:
            msg = f"{recipe.folds} folds of {len(names)} {data.group_word}s: set folds lower"
            raise RecipeError(msg)
        parts: list[Unseen] = []
        places: list[NDArray[np.int64]] = []
        for number, fold in enumerate(np.array_split(names, recipe.folds), start=1):
            is_out = np.isin(data.train.groups, fold)
            seen, held_out = data.train.where(~is_out), data.train.where(is_out)
            folder = self.folder / f"fold-{number}"
            scaler, done = self.distill(seen, held_out, folder, is_last=False)
            if done.student is None:
                return None
            parts.append(score_unseen(data, recipe, done.student, scaler, seen, held_out))
            places.append(np.flatnonzero(is_out))
        order = np.argsort(np.concatenate(places))
        return Unseen(
            np.concatenate([part.scored for part in parts])[order],
            np.concatenate([part.distances for part in parts])[order],
        )


def measure(task: str, truth: NDArray[np.int64], scored: NDArray[np.float32]) -> dict[str, float]:
    """All measures of a task on labelled windows; see `training.evaluate`."""
    if task == "rul":
        error = scored.astype(np.float64) - truth
        return {
            "rmse": evaluate.rmse(truth, scored),
            "nasa_score": evaluate.nasa_score(truth, scored),
            "bias": float(error.mean()),
            "windows": float(len(truth)),
        }
    winners = scored.argmax(axis=1)
    return {
        "macro_f1": evaluate.macro_f1(truth, winners, scored.shape[1]),
        "accuracy": evaluate.accuracy(truth, winners),
        "windows": float(len(truth)),
    }


def recipe_of(artifact: Artifact) -> Recipe | None:
    """The recipe in the lineage of a student; None if it was not trained by this code."""
    try:
        return parse_recipe(artifact.manifest.lineage.command)
    except RecipeError:
        return None


def check_comparable(running: Artifact, data: DataSet, recipe: Recipe) -> str:
    """Make sure that the running student has not learned from the held-out groups.

    Returns:
        One sentence for the report.

    Raises:
        LeakageError: same data, but another draw of the held-out groups.
        ArtifactError: the running student reads other channels or windows.
    """
    if running.manifest.lineage.data_digest != data.digest:
        return (
            f"the running student was trained on other data ({running.manifest.lineage.data}); "
            f"an {data.group_word} that is in both favours the running student"
        )
    trained = recipe_of(running)
    if trained is None:
        return "the running student does not say what it held out: it may be favoured"
    if trained.folds or recipe.folds:
        who = "running" if trained.folds else "new"
        msg = (
            f"the {who} student learns from all {data.group_word}s of these data (folds), so none "
            "is left to judge both on: train under another --name, or on other data"
        )
        raise LeakageError(msg)
    if (trained.split_seed, trained.hold_out) != (recipe.split_seed, recipe.hold_out):
        msg = (
            f"the running student held out split_seed={trained.split_seed}, "
            f"hold_out={trained.hold_out}; with split_seed={recipe.split_seed}, "
            f"hold_out={recipe.hold_out} it would be judged on what it learned from: "
            "use its values in the recipe"
        )
        raise LeakageError(msg)
    return f"both students were trained without these {data.group_word}s (same split seed)"


def compare(
    running: Artifact, candidate: Candidate
) -> tuple[evaluate.Comparison, dict[str, float]]:
    """Score the running student on the candidate's held-out windows and compare by group.

    Returns:
        The paired comparison, and the running student's measures.

    Raises:
        ArtifactError: the two do not read the same windows.
    """
    check_fit(running.manifest, candidate.artifact.manifest)
    held_out, task = candidate.held_out, candidate.artifact.manifest.task
    scored = score_raw(Student(running), held_out.windows)
    new, old = (
        evaluate.group_errors(task, held_out.labels, scores, held_out.groups)
        for scores in (candidate.scored, scored)
    )
    return evaluate.compare_groups(old, new), measure(task, held_out.labels, scored)


def code_revision() -> str:
    """The git revision of this checkout (`-dirty`: changed code), or the installed version."""
    root = Path(training.__file__).resolve().parent.parent
    code = ["training", "models/*.py", "ingest/recordings.py"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        # An installed package may lie inside a checkout of something else.
        _git(root, "ls-files", "--error-unmatch", "training/candidate.py")
        dirty = "-dirty" if _git(root, "status", "--porcelain", "--", *code) else ""
        return _git(root, "rev-parse", "--short=12", "HEAD") + dirty
    return f"kpstream {version('kpstream')}"


def _headline(task: str) -> str:
    return "rmse" if task == "rul" else "macro_f1"


def _draft(
    data: DataSet,
    recipe: Recipe,
    name: str,
    scaler: Scaler,
    held_out: WindowSet,
    metrics: dict[str, float],
    doubt: Doubt,
    command: str,
) -> Draft:
    measures = {"out_of_fold" if recipe.folds else "held_out": metrics}
    if doubt.measures:
        measures["calibration"] = doubt.measures
    return Draft(
        name=name,
        task=data.task,
        stream=data.stream,
        channels=data.channels,
        rate_hz=data.rate_hz,
        window=WindowShape(
            length=data.length,
            hop=data.hop,
            min_readings=data.min_readings or data.length,
            gap_ms=data.gap_ms,
        ),
        scaler=scaler,
        decoding=_decoding(data, doubt.unknown),
        interval=doubt.interval,
        metrics=measures,
        lineage=Lineage(
            teacher=teacher_of(recipe),
            method=recipe.method,
            data=f"{data.title}, training set {_seen_groups(data, recipe, held_out)}",
            data_digest=data.digest,
            code_revision=code_revision(),
            seed=recipe.seed,
            created_ms=time.time_ns() // 1_000_000,
            # A comment and the recipe: the text as a whole is the TOML that trains it again.
            command=f"# {command}\n{format_recipe(recipe)}",
        ),
        licence=f"Apache-2.0; {data.terms}",
    )


def _seen_groups(data: DataSet, recipe: Recipe, held_out: WindowSet) -> str:
    names = np.unique(held_out.groups)
    if recipe.folds:
        return f"with all {len(names)} {data.group_word}s, measured out of {recipe.folds} folds"
    return f"without the held-out {data.group_word}s {' '.join(map(str, names))}"


def _decoding(data: DataSet, unknown: Unknown | None) -> RulDecoding | ClassesDecoding:
    if data.labels is None:
        return RulDecoding(kind="rul", output="rul", unit="cycles", max_rul=MAX_RUL)
    return ClassesDecoding(
        kind="classes", output="probabilities", labels=data.labels, unknown=unknown
    )


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(  # noqa: S603 (fixed words)
        ["git", *words],  # noqa: S607 (git on PATH)
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    )
    return done.stdout.strip()
