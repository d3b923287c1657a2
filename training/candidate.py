"""One complete run: split, scale, distil, calibrate, export, compare with the running student.

The held-out groups are drawn once from the recipe's split seed. The student never sees them; its
uncertainty is calibrated on them, and students are compared on them. With `folds` every group is
held out once, by students that are discarded: their scores calibrate and measure the recipe, and
the final student learns from all groups, for the same number of passes. A run never reads the
official test set.
"""

from __future__ import annotations

import contextlib
import math
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

import training
from models.artifact import Artifact
from models.describe import describe_seen
from models.manifest import Draft, Lineage, Scaler, WindowShape, check_fit
from models.session import Student
from models.tasks.classes import ClassesDecoding
from models.tasks.registry import find_task
from training.datasets.contract import DataSet, fit_scaler
from training.distill import Distilled, Epoch, distill
from training.errors import LeakageError, RecipeError
from training.evaluate import Rival, columns_by_label, judge_rival
from training.export.artifact import export_artifact, score_raw
from training.export.features import with_features
from training.methods.build import build_method, describe_teacher
from training.recipes import Recipe, format_recipe, parse_recipe
from training.scoring import score_torch
from training.students.conditions import fit_preprocessor
from training.students.upright import scaling_of
from training.teachers.boosting import score_with_boosting
from training.teachers.ensemble import score_with_ensemble
from training.uncertainty.anchors import Round, fit_features, label_features, leave_people_out
from training.uncertainty.fit import (
    Calibration,
    HeldOutScores,
    calibrate,
    distance_of,
    join_held_out,
    score_held_out,
)
from training.windows import WindowSet, fold_groups, hold_out_groups, join_windows

_FEW = 2000  # windows of a fold's students whose features are looked at

__all__ = [
    "Candidate",
    "EpochReport",
    "check_comparable",
    "code_revision",
    "compare",
    "recipe_of",
    "train_candidate",
]


@dataclass(frozen=True, slots=True)
class EpochReport:
    """One point of the learning curve.

    Attributes:
        number: Passes done, counted from 1, over all folds.
        epochs: Passes of the whole run.
        loss: Mean training loss of the pass.
        held_out: Headline measure of the task on the held-out groups; it is reported and never
            influences the run. None while a student learns from all groups.
    """

    number: int
    epochs: int
    loss: float
    held_out: float | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A finished run.

    Attributes:
        artifact: New student, written to disk and read back.
        held_out: Windows that it has never seen; with `folds` all windows, scored out of fold.
        scored: Scores of these windows: numbers `[n]` or probabilities `[n, classes]`. They come
            from the artifact, as the gateway computes them; with `folds`, from the students that
            were discarded.
        metrics: Measures on these windows.
        seconds: Computing time of the training loops.
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
        data: Data set; its `test` is not read.
        recipe: Recipe of the run.
        name: Name of the student.
        folder: Gets `last.pt` and `artifact/`; with `folds` or `calibration_folds` also
            `fold-1/last.pt` and so on.
        command: Command line for the lineage.
        on_epoch: Called after every pass; the held-out windows are scored for it.
        on_student: Called after every pass with the student at that time and its scaler; it cannot
            change the run.
        deadline_s: `time.monotonic()` from which no further pass starts.

    Returns:
        The candidate, or None if the deadline came first; call again to continue.

    Raises:
        TrainingError: The run failed; the subclass gives the kind. No artifact is written.
        ArtifactError: The gateway's checks refuse the student; no artifact is written.
    """
    run = _Run(data, recipe, folder, on_epoch, on_student, deadline_s)
    known: HeldOutScores | None = None
    others: HeldOutScores | None = None
    seen = held_out = data.train
    if recipe.folds:
        known = run.score_out_of_fold(data.train, recipe.folds)
        if known is None:
            return None
    else:
        groups = hold_out_groups(data.train.groups, recipe.hold_out, recipe.split_seed)
        seen, held_out = data.train.without_groups(groups), data.train.of_groups(groups)
        if recipe.calibration_folds:
            others = run.score_out_of_fold(seen, recipe.calibration_folds)
            if others is None:
                return None
    scaler, done = run.distill(seen, None if recipe.folds else held_out, folder)
    if done.student is None:
        return None
    if known is None:
        known = score_held_out(data, recipe, done.student, scaler, seen, held_out)
    distance = distance_of(data, recipe, scaler, seen)
    unseen = held_out
    if others is not None:
        unseen, known = (
            join_windows([held_out, seen]),
            join_held_out([known, others], np.split(np.arange(len(data.train)), [len(held_out)])),
        )
    student, scored, calibration = calibrate(data, done.student, distance, unseen, known)
    scored = scored[: len(held_out)]
    metrics = data.contract.measure(held_out.labels, scored)
    draft = _draft(data, recipe, name, scaler, seen, held_out, metrics, calibration, command)
    draft = _with_features(draft, student, seen, held_out, run.rounds if recipe.folds else None)
    artifact = export_artifact(student, draft, held_out.windows, folder / "artifact")
    if not recipe.folds:
        scored = score_raw(Student(artifact), held_out.windows)
    return Candidate(artifact, held_out, scored, metrics, run.seconds)


class _Run:
    """The trainings of one run: a single one, or one per fold and one on all groups."""

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
        self.rounds: list[Round] = []

    def distill(
        self, seen: WindowSet, held_out: WindowSet | None, folder: Path, *, is_last: bool = True
    ) -> tuple[Scaler, Distilled]:
        """Train one student on `seen`, which also gives scaler and preprocessor."""
        data, recipe = self.data, self.recipe
        scaler = fit_scaler(scaling_of(recipe, data.scaling), seen.windows)
        preprocessor = fit_preprocessor(data.scaling, seen.windows)

        def report(epoch: Epoch) -> None:
            if self.on_epoch is not None:
                value = None
                if held_out is not None:
                    scored = score_torch(epoch.student, scaler, held_out.windows)
                    value = data.contract.headline.compute(held_out.labels, scored)
                number, epochs = self.passes + epoch.number, epoch.epochs * recipe.trainings
                self.on_epoch(EpochReport(number, epochs, epoch.loss, value))
            if is_last:
                self.on_student(epoch.student, scaler)

        teacher_scores = None
        if recipe.method == "ensemble":
            teacher_scores = score_with_ensemble(
                recipe, seen, scaler, data.num_answers, build_method, preprocessor
            )
        elif recipe.method == "boosting":
            teacher_scores = score_with_boosting(data, recipe, seen)
        done = distill(
            recipe,
            seen,
            scaler,
            data.num_answers,
            build_method,
            preprocessor=preprocessor,
            teacher_scores=teacher_scores,
            folder=folder,
            on_epoch=report,
            deadline_s=self.deadline_s,
        )
        self.seconds += done.seconds
        self.passes += recipe.epochs
        return scaler, done

    def score_out_of_fold(self, windows: WindowSet, folds: int) -> HeldOutScores | None:
        """Score windows by students that have not seen their fold; None: out of time."""
        data, recipe = self.data, self.recipe
        count = len(np.unique(windows.groups))
        if count < folds:
            msg = (
                f"recipe: {folds} folds of {count} {data.group_word}s are too many: "
                f"set {'folds' if recipe.folds else 'calibration_folds'} to {count} at most"
            )
            raise RecipeError(msg)
        groups = fold_groups(windows.groups, folds, recipe.split_seed)
        parts: list[HeldOutScores] = []
        places: list[NDArray[np.int64]] = []
        for number, fold in enumerate(groups, start=1):
            is_out = np.isin(windows.groups, fold)
            seen, held_out = windows.where(~is_out), windows.where(is_out)
            folder = self.folder / f"fold-{number}"
            scaler, done = self.distill(seen, held_out, folder, is_last=False)
            if done.student is None:
                return None
            parts.append(score_held_out(data, recipe, done.student, scaler, seen, held_out))
            if data.labels is not None and (featured := with_features(done.student)) is not None:
                few = seen.where(_evenly(len(seen), _FEW))
                both = (label_features(featured, scaler, part) for part in (few, held_out))
                self.rounds.append((next(both), next(both)))
            places.append(np.flatnonzero(is_out))
        return join_held_out(parts, places)


def recipe_of(artifact: Artifact) -> Recipe | None:
    """Read the recipe in the lineage of a student; None if this code did not train it."""
    try:
        return parse_recipe(artifact.manifest.lineage.command)
    except RecipeError:
        return None


def check_comparable(running: Artifact, data: DataSet, recipe: Recipe) -> str:
    """Check that the running student has not learned from the held-out groups.

    Returns:
        One sentence for the report.

    Raises:
        ArtifactError: The two students would not read the same windows.
        LeakageError: The data are the same, but other groups were held out.
    """
    _check_windows(running, data)
    if running.manifest.lineage.data_digest != data.digest:
        return (
            f"the running student was trained on other data ({running.manifest.lineage.data}); "
            f"an {data.group_word} that is in both favours the running student"
            f"{_other_classes(_labels_of(running), data.labels or ())}"
        )
    trained = recipe_of(running)
    if trained is None:
        return "the running student does not name its held-out groups, so it may be favoured"
    if trained.folds or recipe.folds:
        student = "running" if trained.folds else "new"
        msg = (
            f"the {student} student learns from all {data.group_word}s of these data (folds), so "
            f"no {data.group_word} is left to compare both on: train under another --name, or on "
            "other data"
        )
        raise LeakageError(msg)
    if (trained.split_seed, trained.hold_out) != (recipe.split_seed, recipe.hold_out):
        msg = (
            f"the running student held out split_seed={trained.split_seed}, "
            f"hold_out={trained.hold_out}; with split_seed={recipe.split_seed}, "
            f"hold_out={recipe.hold_out} it would be judged on what it learned from: use its "
            "values in the recipe"
        )
        raise LeakageError(msg)
    return f"both students were trained without these {data.group_word}s (same split seed)"


def _check_windows(running: Artifact, data: DataSet) -> None:
    """Refuse before the training what `compare` would refuse after it."""
    window = running.manifest.window.model_copy(
        update={"length": data.length, "hop": data.hop, "gap_ms": data.gap_ms}
    )
    changes = {"channels": data.channels, "rate_hz": data.rate_hz, "window": window}
    check_fit(running.manifest, running.manifest.model_copy(update=changes))


def _other_classes(own: Sequence[str], labels: Sequence[str]) -> str:
    """Tell which classes the running student or the data lack; "" if both have the same."""
    missing = ", ".join(label for label in labels if label not in own)
    extra = ", ".join(label for label in own if label not in labels)
    told = f"; it does not know {missing}, so it is wrong on these windows" if missing else ""
    return told + (f"; it also knows {extra}, which these data lack" if extra else "")


def compare(other: Artifact, candidate: Candidate, name: str = "running") -> Rival:
    """Score another student on the candidate's held-out windows and compare by group.

    Both are scored by the gateway's runtime, so the same student is never better than itself.
    Classes are matched by name. One that only the other student has is always wrong here.

    Args:
        other: The running student, or another one.
        candidate: The new student.
        name: Name of the other one for tables.

    Raises:
        ArtifactError: The two students do not read the same windows.
    """
    check_fit(other.manifest, candidate.artifact.manifest)
    held_out, task = candidate.held_out, find_task(candidate.artifact.manifest.task)
    scored = columns_by_label(
        score_raw(Student(other), held_out.windows),
        _labels_of(other),
        _labels_of(candidate.artifact),
    )
    both = (scored, candidate.scored)
    return judge_rival(task, name, held_out.labels, both, held_out.groups)


def _labels_of(artifact: Artifact) -> tuple[str, ...]:
    """Labels of the classes in the order of the output; () for a student of numbers."""
    manifest = artifact.manifest
    return find_task(manifest.task).answer.labels(manifest.decoding)


def code_revision() -> str:
    """Return the git revision of this checkout (`-dirty`: changed code), or the version."""
    root = Path(training.__file__).resolve().parent.parent
    code = ["training", "models/*.py", "ingest/recordings"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        # An installed package may be inside the checkout of another project.
        _git(root, "ls-files", "--error-unmatch", "training/candidate.py")
        dirty = "-dirty" if _git(root, "status", "--porcelain", "--", *code) else ""
        return _git(root, "rev-parse", "--short=12", "HEAD") + dirty
    return f"kpstream {version('kpstream')}"


def _draft(
    data: DataSet,
    recipe: Recipe,
    name: str,
    scaler: Scaler,
    seen: WindowSet,
    held_out: WindowSet,
    metrics: dict[str, float],
    calibration: Calibration,
    command: str,
) -> Draft:
    decoding = data.new_decoding(calibration.unknown)
    if calibration.familiar is not None:
        decoding = decoding.model_copy(update={"familiar": calibration.familiar})
    measures = {"out_of_fold" if recipe.folds else "held_out": metrics}
    if calibration.measures:
        measures["calibration"] = calibration.measures
    return Draft(
        name=name,
        task=data.task,
        stream=data.stream,
        subject=data.subject,
        channels=data.channels,
        rate_hz=data.rate_hz,
        window=WindowShape(
            length=data.length,
            hop=data.hop,
            min_readings=data.min_readings or data.length,
            gap_ms=data.gap_ms,
        ),
        scaler=scaler,
        seen=describe_seen(
            seen.windows, seen.groups, data.hop, [channel.name for channel in data.channels]
        ),
        decoding=decoding,
        interval=calibration.interval,
        metrics=measures,
        lineage=Lineage(
            teacher=describe_teacher(recipe),
            method=recipe.method,
            data=f"{data.title}, training set {_describe_groups(data, recipe, held_out)}",
            data_digest=data.digest,
            code_revision=code_revision(),
            seed=recipe.seed,
            created_ms=time.time_ns() // 1_000_000,
            # A comment and the recipe: together they are the TOML that trains it again.
            command=f"# {command}\n{format_recipe(recipe)}",
        ),
        licence=f"Apache-2.0; {data.terms}",
    )


def _with_features(
    draft: Draft,
    student: nn.Module,
    seen: WindowSet,
    held_out: WindowSet,
    rounds: Sequence[Round] | None,
) -> Draft:
    """Add the features of a student of classes to its draft.

    Args:
        draft: Draft without.
        student: Student as it ships.
        seen: Windows that it has learned from.
        held_out: Windows that it has not learned from; with folds, the same as `seen`.
        rounds: Those of the folds; None without folds.
    """
    decoding, featured = draft.decoding, with_features(student)
    if not isinstance(decoding, ClassesDecoding) or featured is None:
        return draft
    learned = label_features(featured, draft.scaler, seen)
    known = learned if rounds is not None else label_features(featured, draft.scaler, held_out)
    if rounds is None:
        rounds = leave_people_out(known)
    features, measures = fit_features(decoding, learned, known, rounds)
    if features is None:
        return draft
    return draft.model_copy(
        update={
            "decoding": decoding.model_copy(update={"features": features}),
            "metrics": draft.metrics | ({"examples": measures} if measures else {}),
        }
    )


def _evenly(count: int, most: int) -> NDArray[np.bool_]:
    chosen = np.zeros(count, dtype=np.bool_)
    chosen[np.unique(np.linspace(0, count - 1, min(count, most)).astype(int))] = True
    return chosen


def _describe_groups(data: DataSet, recipe: Recipe, held_out: WindowSet) -> str:
    names = np.unique(held_out.groups)
    if recipe.folds:
        return f"with all {len(names)} {data.group_word}s, measured out of {recipe.folds} folds"
    return f"without the held-out {data.group_word}s {' '.join(data.name_groups(names))}"


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(  # noqa: S603 (fixed arguments)
        ["git", *arguments],  # noqa: S607 (git on PATH)
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    )
    return done.stdout.strip()
