"""Extend an exported student by an activity that it has no example of.

Nothing is trained again. The training windows are read once more, because the student's graph knows
how to tell its classes apart, but not how their windows scatter, and that decides how much a window
may differ from all of them before it gets another name.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from models.artifact import Artifact, write_artifact
from models.features import scale
from models.manifest import Draft, Manifest
from models.session import Student
from models.tasks.classes import UNKNOWN, ClassAnswer, ClassesDecoding, ClassScores
from models.tasks.classfeatures import FEATURES, ClassFeatures, pack_vectors
from models.tasks.fields import MAX_LABELS, ClassLabel, fold_label
from models.tasks.registry import find_task
from training.candidate import code_revision, recipe_of
from training.datasets.contract import DataSet
from training.errors import ExportError, Hopeless, NamingError
from training.evaluate import bootstrap_95
from training.naming.graph import extend_graph
from training.naming.leaveout import LeftOut, leave_each_out
from training.naming.module import NamingHead
from training.naming.names import (
    MOVEMENT,
    Described,
    NamedClass,
    fit_named,
    fit_views,
    nearest_known,
)
from training.scoring import score_scaled
from training.students.movement import Movement
from training.teachers.anchors import compute_anchors
from training.teachers.facts import compared_facts, fact_row, fact_table
from training.teachers.lexicon import describe_label
from training.teachers.prompts import SENTENCES_APART
from training.windows import WindowSet, hold_out_groups

__all__ = [
    "Encode",
    "Extension",
    "describe_all",
    "encode_text",
    "extend_student",
    "measures_name",
    "with_centre",
]

_LEAST_GAP = 1.5  # standard deviations within a class, mean over the views
_LEAST_RECALL = 0.5  # if the prediction were exact
_CAUTION = 0.75  # of the share, where nobody is known to have been held out
_FEW_PEOPLE = 4
_HOLD_OUT = 0.3  # of the people, where the student held out none
_PARITY = 1e-4
_TEXT_WEIGHT = 1.0  # example windows that a centre predicted from a text counts for
_CHECKED = 256  # windows
_LONGEST = 4000  # characters of a text in a manifest
_CLASS_LABEL = TypeAdapter(ClassLabel)
_OF_VERSION = re.compile(r"v[0-9]+: ")


@dataclass(frozen=True, slots=True)
class Extension:
    """An extended student and what is known about it.

    Attributes:
        artifact: The student, written to disk and read back.
        left_out: What the same method reaches for each known activity, left out in turn.
        false_alarms: Share of windows of known activities, of held-out people, that get the name.
        newly_unknown: Share of these windows that become unknown.
        nearest: Known activity that the new one resembles most.
        if_right: Share of its windows that get the name if they lie where it is predicted.
        described: Labels and the sentences that stand for them, the new one last.
        notes: Sentences for people.
    """

    artifact: Artifact
    left_out: list[LeftOut]
    false_alarms: float
    newly_unknown: float
    nearest: str
    if_right: float
    described: dict[str, tuple[str, ...]]
    notes: tuple[str, ...]


Encode = Callable[[Sequence[Sequence[str]]], NDArray[np.float64]]
"""Turns descriptions, several sentences each, into vectors `[descriptions, width]`."""


def encode_text(descriptions: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """Encode descriptions by the frozen text model; see `Encode`."""
    joined = [SENTENCES_APART.join(sentences) for sentences in descriptions]
    return compute_anchors(joined).astype(np.float64)


def describe_all(
    labels: Sequence[str], given: Mapping[str, Sequence[str]]
) -> list[tuple[str, ...]]:
    """Find the sentences that describe each label: those given, or those of the lexicon.

    Raises:
        NamingError: A label has no description; the message says how to give one.
    """
    unknown = sorted(set(given) - set(labels))
    if unknown:
        msg = f"--known-as names {unknown[0]!r}, but the student knows {', '.join(labels)}"
        raise NamingError(msg)
    found, missing = [], []
    for label in labels:
        sentences = tuple(given.get(label, ())) or describe_label(label)
        if sentences is None:
            missing.append(label)
        found.append(sentences or ())
    if missing:
        msg = (
            f"nothing is known about {', '.join(missing)}: describe each in a sentence or two, "
            f"such as --known-as '{missing[0]}=a person walks slowly, the trunk is upright', or "
            f"name an activity that is like it: --known-as '{missing[0]}=walking'"
        )
        raise NamingError(msg)
    return found


def extend_student(
    artifact: Artifact,
    data: DataSet,
    activity: str,
    sentences: Sequence[str],
    known_as: Mapping[str, Sequence[str]],
    folder: Path,
    *,
    share: float,
    encode: Encode,
    command: str,
) -> Extension:
    """Make the next version of a student, which also knows `activity`.

    Args:
        artifact: Student with classes.
        data: Data that the student was trained on; windows of labels that it doesn't know, such as
            the new one, are not read.
        activity: The new label.
        sentences: Its description.
        known_as: Descriptions of known labels, where the lexicon has none or another meaning.
        folder: Folder of the new artifact.
        share: Largest share of windows of known activities that may get the name.
        encode: Text model.
        command: Command line for the lineage.

    Raises:
        NamingError: The activity cannot be told from the others; nothing is written.
        ExportError: The graph of the extended student disagrees with the fitted one.
        ArtifactError: The gateway's checks refuse the student.
    """
    manifest = artifact.manifest
    decoding, notes = _check(manifest, data, activity, sentences), []
    descriptions = describe_all(decoding.labels, known_as)
    known = Described(fact_table(descriptions), encode(descriptions))
    facts = compared_facts(sentences, dict(zip(decoding.labels, known.facts, strict=True)))
    new = Described(fact_row(facts)[None], encode([sentences]))
    if not facts:
        notes.append(
            "the description contains no word about strength, rhythm, impacts, posture or turns "
            "that the rules know, so only the text model places it"
        )
    learned, held_out, is_fresh = _split(artifact, data, decoding.labels)
    if not is_fresh:
        share *= _CAUTION
        notes.append(
            "the student has learned from all people of these data, or from other data, so its "
            "features look too familiar to set a margin: measured movement alone decides, the "
            "margin aims at three quarters of the share, and fewer windows of the new activity are "
            "found than with a student that holds people out"
        )
    elif decoding.features is None:
        notes.append(
            "the graph gives no features, so only the measured movement decides: a student that "
            "this version trains gives them"
        )
    people = len(np.unique(held_out.groups))
    if people < _FEW_PEOPLE:
        notes.append(
            f"the margin is set on {people} held-out {data.group_word}s only, so the share of "
            "misnamed windows of others may be larger"
        )
    movement = _movement(manifest, learned)
    values = _values(artifact, movement, learned.windows, with_features=is_fresh)
    kept = _values(artifact, movement, held_out.windows, with_features=is_fresh)
    present = [int(label) for label in np.unique(learned.labels)]
    statistics = [statistic for _, statistic in movement.names]
    left = leave_each_out(values, learned, kept, held_out, known, statistics, share)
    views = fit_views(values, learned.labels)
    named = fit_named(views, statistics, known.rows(present), new, kept, held_out.groups, share)
    near, gap, if_right = nearest_known(named, kept, held_out.labels, present)
    nearest = decoding.labels[near]
    _refuse_if_hopeless(activity, nearest, gap, if_right, left)
    threshold = decoding.unknown.threshold if decoding.unknown else 0.0
    head = NamingHead(named, movement, threshold).eval()
    onnx_bytes = extend_graph(
        artifact.onnx_bytes,
        head,
        manifest.window.length,
        len(manifest.channels),
        len(decoding.labels),
        decoding.output,
        values[FEATURES].shape[1] if FEATURES in values else None,
    )
    alarms = float(np.mean(named.is_named(kept)))
    draft = _draft(
        artifact, named, activity, sentences, known_as, left, alarms, if_right, share, command
    )
    with tempfile.TemporaryDirectory() as scratch:
        trial = Student(write_artifact(scratch, draft, onnx_bytes))
        trial.self_test()
        lost = _check_scores(Student(artifact), trial, named, kept, held_out.windows, activity)
        measured = {"held_out" if is_fresh else "learned people": _measure_known(trial, held_out)}
        draft = draft.model_copy(update={"metrics": measured | draft.metrics})
    written = write_artifact(folder, draft, onnx_bytes)
    described = dict(
        zip((*decoding.labels, activity), (*descriptions, tuple(sentences)), strict=True)
    )
    return Extension(written, left, alarms, lost, nearest, if_right, described, tuple(notes))


def _check(
    manifest: Manifest, data: DataSet, activity: str, sentences: Sequence[str]
) -> ClassesDecoding:
    if not isinstance(find_task(manifest.task).answer, ClassAnswer):
        msg = f"{manifest.name} answers with {manifest.task}, and only classes can be named"
        raise NamingError(msg)
    decoding = cast(ClassesDecoding, manifest.decoding)
    _check_name(manifest, decoding, activity)
    if not sentences:
        msg = (
            f"nothing is known about {activity!r}: describe what a sensor would feel with "
            '--describe "...", such as "a smooth periodic rhythm without impacts, seated"'
        )
        raise NamingError(msg)
    wanted = (manifest.channels, manifest.window.length, manifest.rate_hz)
    if wanted != (data.channels, data.length, data.rate_hz):
        msg = (
            f"{data.title} has windows of {data.length} readings of "
            f"{', '.join(channel.name for channel in data.channels)} at {data.rate_hz} Hz, and "
            f"{manifest.name} reads {manifest.window.length} readings of "
            f"{', '.join(manifest.channel_names)} at {manifest.rate_hz} Hz: pass the data that "
            "this student was trained on"
        )
        raise NamingError(msg)
    return decoding


def _check_name(manifest: Manifest, decoding: ClassesDecoding, activity: str) -> None:
    """Check what the manifest would refuse at the end, after minutes of work."""
    try:
        _CLASS_LABEL.validate_python(activity)
    except ValidationError as exc:
        why = exc.errors(include_url=False, include_context=False)[0]["msg"]
        msg = f"{activity!r} cannot be the name of a class: {why}"
        raise NamingError(msg) from exc
    folded = {fold_label(label): label for label in decoding.labels}
    if (known := folded.get(fold_label(activity))) is not None:
        msg = f"{manifest.name} v{manifest.version} knows {known} already"
        raise NamingError(msg)
    if fold_label(activity) == UNKNOWN:
        msg = f"{activity!r} is the label of windows that resemble no class: choose another name"
        raise NamingError(msg)
    if len(decoding.labels) >= MAX_LABELS:
        msg = f"{manifest.name} v{manifest.version} knows {MAX_LABELS} classes, the most there are"
        raise NamingError(msg)


def _split(
    artifact: Artifact, data: DataSet, labels: Sequence[str]
) -> tuple[WindowSet, WindowSet, bool]:
    """Split into windows the student learned from and others, with the student's own labels.

    Returns:
        Both, and whether the student has surely not learned from the second.
    """
    own = np.array(
        [labels.index(label) if label in labels else -1 for label in data.labels or ()] or [-1]
    )
    train = data.train.where(own[data.train.labels] >= 0)
    train = WindowSet(train.windows, own[train.labels], train.groups)
    if len(np.unique(train.labels)) < 2:
        msg = (
            f"{data.title} has windows of fewer than two of {', '.join(labels)}: pass the data "
            "that this student was trained on"
        )
        raise NamingError(msg)
    recipe = recipe_of(artifact)
    same = artifact.manifest.lineage.data_digest == data.digest
    is_fresh = same and recipe is not None and not recipe.folds
    if is_fresh and recipe is not None:
        groups = hold_out_groups(data.train.groups, recipe.hold_out, recipe.split_seed)
    else:
        groups = hold_out_groups(train.groups, _HOLD_OUT, 0)
    learned, held_out = train.without_groups(groups), train.of_groups(groups)
    if not len(held_out) or set(np.unique(held_out.labels)) - set(np.unique(learned.labels)):
        msg = "a known activity is done by held-out people only: use data of more people"
        raise NamingError(msg)
    return learned, held_out, is_fresh


def _movement(manifest: Manifest, learned: WindowSet) -> Movement:
    readings = learned.windows.reshape(-1, len(manifest.channels)).astype(np.float64)
    return Movement(
        manifest.channels,
        manifest.scaler,
        manifest.window.length,
        manifest.rate_hz,
        readings.std(axis=0),
    ).eval()


def _values(
    artifact: Artifact, movement: Movement, windows: NDArray[np.float32], *, with_features: bool
) -> dict[str, NDArray[np.float32]]:
    scaled = scale(windows, artifact.manifest.scaler)
    values = {MOVEMENT: score_scaled(movement, torch.from_numpy(scaled))}
    student = Student(artifact)
    if with_features and student.has_features:
        _, values[FEATURES] = student.score_with_features(windows)
    return values


def _refuse_if_hopeless(
    activity: str, nearest: str, gap: float, if_right: float, left: Sequence[LeftOut]
) -> None:
    if gap < _LEAST_GAP or if_right < _LEAST_RECALL:
        msg = (
            f"I can't: {activity!r} lies too close to {nearest} ({gap:.1f} standard deviations of "
            f"its windows; at least {_LEAST_GAP:g} are needed). Even if its windows lie exactly "
            f"where the description puts them, {100 * if_right:.0f} % would get the name, and they "
            f"would be mixed with those of {nearest}. Describe what makes it different from "
            f"{nearest} in strength, rhythm, impacts, posture or turns, or record examples"
        )
        raise Hopeless(msg)
    if left and np.mean([one.by_movement - one.by_chance for one in left]) <= 0:
        found, chance = (
            100 * np.mean([getattr(one, name) for one in left])
            for name in ("by_movement", "by_chance")
        )
        msg = (
            "I can't: with each known activity left out in turn, descriptions name it in "
            f"{found:.0f} % of its windows, and permuted ones in {chance:.0f} %. The descriptions "
            "of these activities don't say what the sensor sees: mend them with --known-as, or "
            "record examples"
        )
        raise Hopeless(msg)


def _check_scores(
    before: Student,
    after: Student,
    named: NamedClass,
    values: Mapping[str, NDArray[np.float32]],
    windows: NDArray[np.float32],
    activity: str,
) -> float:
    """Compare the graph with the fitted scores; return the share of windows newly unknown."""
    some = np.unique(np.linspace(0, len(windows) - 1, _CHECKED).astype(int))
    old = cast(ClassScores, before.score(windows))
    new = cast(ClassScores, after.score(windows))
    wanted = named.score(values)
    clear = np.abs(wanted - named.margin) > 1e-2
    got = np.array([new.label(row) == activity for row in range(len(windows))])
    wrong = np.flatnonzero((got != (wanted > named.margin)) & clear)
    known = old.values * (1 - new.values[:, -1:])
    apart = float(np.abs(known[some] - new.values[some, :-1]).max())
    if len(wrong) or apart > _PARITY:
        msg = (
            f"the extended graph names {len(wrong)} of {len(windows)} windows otherwise than "
            f"fitted, and known probabilities differ by {apart:.3g}: no artifact was written"
        )
        raise ExportError(msg)
    return float(np.mean(old.known & ~new.known))


def _draft(
    artifact: Artifact,
    named: NamedClass,
    activity: str,
    sentences: Sequence[str],
    known_as: Mapping[str, Sequence[str]],
    left: Sequence[LeftOut],
    alarms: float,
    if_right: float,
    share: float,
    command: str,
) -> Draft:
    manifest = artifact.manifest
    content = {field: getattr(manifest, field) for field in Draft.model_fields}
    decoding = cast(ClassesDecoding, manifest.decoding)
    measures = {
        "known_misnamed": alarms,
        "known_misnamed_at_most": share,
        "recall_if_prediction_is_exact": if_right,
    }
    if left:
        recalls = np.array([one.recall for one in left])
        lower, upper = bootstrap_95(recalls)
        measures |= {
            "expected_recall": float(recalls.mean()),
            "expected_recall_low": lower,
            "expected_recall_high": upper,
            "by_permuted_descriptions": float(np.mean([one.by_chance for one in left])),
        }
    described = "; ".join(
        [f"{activity}: {' | '.join(sentences)}"]
        + [f"{label}: {' | '.join(some)}" for label, some in known_as.items()]
    )
    lineage = manifest.lineage.model_copy(
        update={
            "teacher": (
                f"description of {activity} by sentence-transformers/all-MiniLM-L6-v2 and rules"
                + (f"; {manifest.lineage.teacher}" if manifest.lineage.teacher else "")
            )[:_LONGEST],
            "data": f"{manifest.lineage.data}; no window of {activity}"[:1000],
            "code_revision": code_revision(),
            "created_ms": time.time_ns() // 1_000_000,
            "command": f"# {command}\n# {described}\n{manifest.lineage.command}"[:_LONGEST],
        }
    )
    return Draft(
        **content
        | {
            "decoding": decoding.model_copy(
                update={
                    "labels": (*decoding.labels, activity),
                    "features": with_centre(decoding.features, named),
                }
            ),
            "metrics": {
                measures_name(activity): measures,
                "left out": {decoding.labels[one.label]: one.recall for one in left},
                **_of_before(manifest),
            },
            "lineage": lineage,
        }
    )


def _measure_known(student: Student, windows: WindowSet) -> dict[str, float]:
    """How the extended student answers windows of the known activities; the new name is wrong.

    The F1 is the mean over the activities that occur, so that of the new one, without a window, is
    not among them.
    """
    scores, truth = cast(ClassScores, student.score(windows.windows)), windows.labels
    winners = scores.values.argmax(axis=1)
    each = []
    for label in np.unique(truth):
        said, is_so = winners == label, truth == label
        each.append(2 * np.sum(said & is_so) / (np.sum(said) + np.sum(is_so)))
    return {
        "macro_f1": float(np.mean(each)),
        "accuracy": float(np.mean(winners == truth)),
        "unknown_share": float(np.mean(~scores.known)),
        "windows": float(len(truth)),
    }


def _of_before(manifest: Manifest) -> dict[str, dict[str, float]]:
    """The measures of the student that is extended, by the version that they are true of."""
    return {
        (split if _OF_VERSION.match(split) else f"v{manifest.version}: {split}")[:64]: measures
        for split, measures in manifest.metrics.items()
    }


def measures_name(activity: str) -> str:
    """The key of the measures of a new activity in `metrics`, which has at most 64 characters."""
    return f"{activity[:55]}, by name"


def with_centre(features: ClassFeatures | None, named: NamedClass) -> ClassFeatures | None:
    """Add the predicted centre of a new class, so that a few examples can move it later.

    A class that was placed by its movement alone has the middle of the others, and no weight.
    """
    if features is None:
        return None
    placed = named.placed.get(FEATURES)
    if placed is None:
        centre = features.centre_vectors().mean(axis=0)
    else:
        centre = placed.middle + placed.new @ np.linalg.inv(placed.whiten)
    centres = np.vstack([features.centre_vectors(), centre / np.linalg.norm(centre)])
    return features.model_copy(
        update={
            "centres": pack_vectors(centres),
            "weights": (*features.weights, 0.0 if placed is None else _TEXT_WEIGHT),
        }
    )
