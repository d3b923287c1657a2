"""What a gateway needs to place anchors: known windows in the space of the features. Fitted here.

All numbers come from windows of people that the student has not learned from, and each known class
is left out in turn, as if it were new: five windows of one person give its anchor, the margin comes
from the other classes of some people, and others are misnamed or not. With folds, every person is
one of those others, of the student that has not seen it. No margin is found among the windows of
who gave the examples, because a gateway has none of them. Few people are asked, so a share is small
enough only with standard errors to spare: one, and two for the person who gives the examples, as
held-out people who were left out of all this needed (docs/results/examples.md).

Windows of people that the student has learned from are kept too, for the covariance alone: with
them, five examples find more at the same false alarms, on held-out people who neither were in the
sample nor gave examples (docs/results/examples.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.anchors import AnchorSpace, anchor_of, margin_of
from models.manifest import Scaler
from models.session import Student
from models.tasks.classes import ClassesDecoding, ClassScores
from models.tasks.classfeatures import (
    FARTHEST,
    MAX_FEATURES,
    ClassFeatures,
    LearnedWindows,
    SampleStatistics,
    pack_classes,
    pack_floats,
    pack_vectors,
)
from models.windowstatistics import window_statistics
from training.export.features import Featured, score_both
from training.windows import WindowSet

__all__ = [
    "EXAMPLES",
    "LabelledFeatures",
    "Round",
    "choose_sample",
    "features_again",
    "fit_features",
    "label_features",
    "leave_people_out",
    "score_features",
]

SHARE = 0.05
"""Share of known windows of other people that may get a name from examples."""
EXAMPLES = 5
"""Windows of an activity from which the numbers are fitted."""
_SAMPLE = 384
_SHARES = (0.1, 0.08, 0.065, 0.05, 0.04, 0.03, 0.02, 0.015, 0.01)
_ERRORS_OWN = 2.0
_ERRORS_SHARED = 1.0
_WEIGHTS = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
_SOFTNESS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
_MOST_ROUNDS = 6
_MOST_PEOPLE = 8
_MOST_NUMBERED = 256  # people that a byte tells apart
_MOST_STATISTICS = 640
"""Those of 64 channels; of more, a manifest would be too large, and features alone decide."""
_NEW = ""  # no class has this name

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LabelledFeatures:
    """Features of windows with what is known about them.

    Attributes:
        features: `[n, d]`, vectors of length 1.
        probabilities: `[n, classes]`, what the student says.
        labels: Classes `[n]`.
        groups: People `[n]`.
        statistics: Plain statistics of the windows, `[n, statistics]`.
    """

    features: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    statistics: NDArray[np.float32]

    def of(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> LabelledFeatures:
        """Return some of the windows."""
        return LabelledFeatures(
            self.features[rows],
            self.probabilities[rows],
            self.labels[rows],
            self.groups[rows],
            self.statistics[rows],
        )


Round = tuple[LabelledFeatures, LabelledFeatures]
"""Windows that a sample is drawn from, and those of other people, of one student."""


def leave_people_out(held_out: LabelledFeatures) -> list[Round]:
    """Leave each held-out person out in turn, for rounds of one student."""
    people = np.unique(held_out.groups)
    if len(people) < 2:
        return [(held_out, held_out)]
    chosen = people[np.unique(np.linspace(0, len(people) - 1, _MOST_ROUNDS).astype(int))]
    return [
        (held_out.of(held_out.groups != person), held_out.of(held_out.groups == person))
        for person in chosen
    ]


def choose_sample(labels: NDArray[np.int64], most: int = _SAMPLE) -> NDArray[np.int64]:
    """Choose windows for the sample of a manifest: as many of each class, evenly over their order.

    Returns:
        Indices, ascending.
    """
    classes = np.unique(labels)
    each = max(1, most // len(classes))
    found = []
    for label in classes:
        own = np.flatnonzero(labels == label)
        found.append(own[np.unique(np.linspace(0, len(own) - 1, min(each, len(own))).astype(int))])
    return np.sort(np.concatenate(found))


def label_features(student: Featured, scaler: Scaler, windows: WindowSet) -> LabelledFeatures:
    """Compute features and probabilities of labelled windows."""
    probabilities, features = score_both(student, scaler, windows.windows)
    statistics = window_statistics(windows.windows)
    return LabelledFeatures(features, probabilities, windows.labels, windows.groups, statistics)


def score_features(student: Student, windows: WindowSet) -> LabelledFeatures:
    """The same of an exported student, in raw units."""
    scores, features = student.score_with_features(windows.windows)
    statistics = window_statistics(windows.windows)
    return LabelledFeatures(features, scores.values, windows.labels, windows.groups, statistics)


def fit_features(
    decoding: ClassesDecoding,
    learned: LabelledFeatures,
    sample: LabelledFeatures,
    rounds: Sequence[Round],
) -> tuple[ClassFeatures | None, dict[str, float]]:
    """Describe the features of a student and fit what anchors need.

    Args:
        decoding: Decoding without features.
        learned: Windows that the student has learned from.
        sample: Windows that the sample of the manifest is drawn from; the same object as `learned`
            where the student has learned from all people.
        rounds: See `Round`; of this student, or of those of the folds.

    Returns:
        The part of the manifest, None where there are too few windows or features are too long;
        and measures: recall of a left-out class from five examples, share of other known windows
        misnamed, and the share of windows of other people that are right with and without five
        examples of a known class.
    """
    classes = len(decoding.labels)
    if learned.features.shape[1] > MAX_FEATURES or len(sample.labels) < classes:
        return None, {}
    start = _describe(classes, learned, sample)
    pairs = [pair for each in rounds for pair in _left_out(decoding, start, each)]
    if not pairs:
        return start, {}
    own = [each for each in pairs if not each.is_shared]
    shared = [each for each in pairs if each.is_shared]
    share, recall, misnamed = _fit_share(own or pairs, _ERRORS_OWN)
    softness = _fit_softness(pairs, share)
    fitted = start.model_copy(
        update={
            "sample_share": share,
            "shared_share": _fit_share(shared, _ERRORS_SHARED)[0] if shared else None,
            "softness": softness,
        }
    )
    weight, right, before = _fit_weight(decoding, fitted, rounds)
    fitted = fitted.model_copy(update={"weights": (weight,) * classes})
    return fitted, {
        "examples_recall": recall,
        "examples_misnamed": misnamed,
        "examples_right": right,
        "examples_right_before": before,
    }


def _describe(classes: int, learned: LabelledFeatures, sample: LabelledFeatures) -> ClassFeatures:
    vectors = learned.features.astype(np.float64)
    centres = np.zeros((classes, vectors.shape[1]))
    for label in np.unique(learned.labels):
        mean = vectors[learned.labels == label].mean(axis=0)
        centres[label] = mean / max(float(np.linalg.norm(mean)), 1e-9)
    statistics = None
    if learned.statistics.shape[1] <= _MOST_STATISTICS:
        spread = learned.statistics.std(axis=0)
        statistics = SampleStatistics(
            middle=pack_floats(learned.statistics.mean(axis=0)),
            spread=pack_floats(np.where(spread > 0, spread, 1.0)),
            values="",
        )
    return ClassFeatures.model_validate(
        {
            "output": "features",
            "size": vectors.shape[1],
            "centres": pack_vectors(centres),
            "weights": (float(EXAMPLES),) * classes,
            "share": SHARE,
            "sample_share": SHARE,
            "softness": 4.0,
            "learned": None if learned is sample else _learned(learned, learned.labels, statistics),
            **_packed(sample, sample.labels, statistics),
        }
    )


def _learned(
    part: LabelledFeatures, classes: NDArray[np.int64], statistics: SampleStatistics | None
) -> LearnedWindows:
    chosen, values = choose_sample(classes), ""
    if statistics is not None:
        values = pack_vectors(statistics.standardised(part.statistics[chosen]) / FARTHEST)
    return LearnedWindows(
        features=pack_vectors(part.features[chosen]),
        classes=pack_classes(classes[chosen]),
        statistics=values,
    )


def _packed(
    part: LabelledFeatures, classes: NDArray[np.int64], statistics: SampleStatistics | None
) -> dict[str, Any]:
    """The fields of a manifest that hold a sample, drawn from some windows."""
    chosen = choose_sample(classes)
    if statistics is not None:
        values = statistics.standardised(part.statistics[chosen]) / FARTHEST
        statistics = statistics.model_copy(update={"values": pack_vectors(values)})
    people = np.unique(part.groups[chosen], return_inverse=True)[1] % _MOST_NUMBERED
    return {
        "sample": pack_vectors(part.features[chosen]),
        "sample_classes": pack_classes(classes[chosen]),
        "sample_people": pack_classes(people),
        "statistics": statistics,
    }


def features_again(
    student: Student, features: ClassFeatures, learned: WindowSet, sample: WindowSet
) -> ClassFeatures:
    """Describe the features of another graph of the same student, such as its eight-bit form.

    Args:
        student: The other graph.
        features: What was fitted to the first one; its numbers stay.
        learned: As for `fit_features`.
        sample: As for `fit_features`.
    """
    of_learned = score_features(student, learned)
    of_sample = of_learned if sample is learned else score_features(student, sample)
    again = _describe(len(features.weights), of_learned, of_sample)
    kept = ("centres", "sample", "sample_classes", "sample_people", "statistics", "learned")
    return features.model_copy(update={name: getattr(again, name) for name in kept})


@dataclass(frozen=True, slots=True)
class _LeftOut:
    """A class that is treated as new, with the examples of one person.

    Attributes:
        known: Leads of the windows that give the margin.
        people: Their people.
        others: Leads of windows of a person who is not among them.
        is_new: Which of `others` are of the class.
        is_shared: Whether another person gave the examples.
    """

    known: _Floats
    people: NDArray[np.int64]
    others: _Floats
    is_new: NDArray[np.bool_]
    is_shared: bool

    def margin(self, share: float) -> float:
        return margin_of(self.known, self.people, share)


def _left_out(decoding: ClassesDecoding, start: ClassFeatures, each: Round) -> Iterator[_LeftOut]:
    drawn, others = each
    for label in range(len(decoding.labels)):
        rest = drawn.of(drawn.labels != label)
        if len(np.unique(rest.labels)) < 2:
            continue
        space = _space(decoding, start, rest)
        # A gateway has no windows of the giver, so those in the sample give no margin.
        known = rest.groups[choose_sample(rest.labels)]
        strangers = _givers(others, label)
        familiar = [each for each in _givers(drawn, label) if (known != each[0]).any()]
        for number, person in enumerate(np.unique(others.groups)[:_MOST_PEOPLE]):
            mine = np.flatnonzero(others.groups == person)
            own = mine[others.labels[mine] == label]
            if len(own) > EXAMPLES:
                later = others.of(np.setdiff1d(mine, own[:EXAMPLES]))
                yield _tried(space, others.of(own), later, label)
            givers = [each for each in strangers if each[0] != person] or familiar
            if givers:
                giver, windows = givers[(number + label) % len(givers)]
                yield _tried(space, windows, others.of(mine), label, known != giver)


def _givers(part: LabelledFeatures, label: int) -> list[tuple[int, LabelledFeatures]]:
    """People with enough windows of a class to give examples, and these windows."""
    found = [
        (int(person), part.of((part.groups == person) & (part.labels == label)))
        for person in np.unique(part.groups)
    ]
    return [each for each in found if len(each[1].labels) >= EXAMPLES]


def _tried(
    space: AnchorSpace,
    examples: LabelledFeatures,
    scored: LabelledFeatures,
    label: int,
    known: NDArray[np.bool_] | None = None,
) -> _LeftOut:
    """Try one person's examples; `known` are the windows of the sample of others than the giver.

    It is None where the giver is the person who is scored.
    """
    placed = space.place([anchor_of(_NEW, _vectors(space, examples)[:EXAMPLES])])
    rows = slice(None) if known is None else known
    return _LeftOut(
        _finite(space.sample_leads(placed)[rows, 0]),
        space.people[rows],
        _finite(space.leads(_vectors(space, scored), placed)[:, 0]),
        scored.labels == label,
        known is not None,
    )


def _space(decoding: ClassesDecoding, start: ClassFeatures, rest: LabelledFeatures) -> AnchorSpace:
    """The space of a student that lacks the classes which `rest` lacks."""
    present, places = np.unique(rest.labels, return_inverse=True)
    features = start.model_copy(
        update={
            "centres": pack_vectors(start.centre_vectors()[present]),
            "weights": tuple(start.weights[at] for at in present),
            "learned": _learned_of(start, present),
            **_packed(rest, places, start.statistics),
        }
    )
    return AnchorSpace(tuple(decoding.labels[at] for at in present), features)


def _learned_of(start: ClassFeatures, present: NDArray[np.int64]) -> LearnedWindows | None:
    """The learned windows of some classes, which are numbered in their order."""
    if start.learned is None:
        return None
    vectors, statistics = start.learned_vectors()
    labels = start.learned_labels()
    rows = np.isin(labels, present)
    if not rows.any():
        return None
    return LearnedWindows(
        features=pack_vectors(vectors[rows]),
        classes=pack_classes(np.searchsorted(present, labels[rows])),
        statistics="" if statistics is None else pack_vectors(statistics[rows] / FARTHEST),
    )


def _vectors(space: AnchorSpace, part: LabelledFeatures) -> _Floats:
    return space.vectors_of(part.features, part.statistics)


def _finite(leads: _Floats) -> _Floats:
    return np.where(np.isfinite(leads), leads, -1e9)


def _fit_share(pairs: Sequence[_LeftOut], errors: float) -> tuple[float, float, float]:
    """The largest share by which at most `SHARE` of windows of other labels are misnamed.

    It is so with `errors` standard errors of the mean over people and classes to spare.

    Returns:
        The share, the recall with it, and the share of known windows that is misnamed.
    """
    for share in _SHARES:
        hits = [(each.others > each.margin(share), each.is_new) for each in pairs]
        wrong = [float(hit[~new].mean()) for hit, new in hits if not new.all()] or [0.0]
        recall = float(np.mean([hit[new].mean() for hit, new in hits if new.any()] or [0]))
        misnamed = float(np.mean(wrong))
        error = np.std(wrong, ddof=1) / np.sqrt(len(wrong)) if len(wrong) > 1 else 0.0
        if misnamed + errors * error <= SHARE:
            break
    return share, recall, misnamed


def _fit_softness(pairs: Sequence[_LeftOut], share: float) -> float:
    """The softness with the least log loss; every class that is left out counts as much."""

    def loss(softness: float) -> float:
        losses = []
        for each in pairs:
            odds = np.clip((each.others - each.margin(share)) / softness, -30, 30)
            losses.append(np.logaddexp(0, np.where(each.is_new, -odds, odds)).mean())
        return float(np.mean(losses))

    return min(_SOFTNESS, key=loss)


def _fit_weight(
    decoding: ClassesDecoding, features: ClassFeatures, rounds: Sequence[Round]
) -> tuple[float, float, float]:
    """What a centre counts for, so that five examples of a known class help their person most.

    Returns:
        The weight, the share of this person's later windows that are right with it, and that
        without examples.
    """
    right: dict[float, list[float]] = {weight: [] for weight in _WEIGHTS}
    before: list[float] = []
    for drawn, others in rounds:
        if len(np.unique(drawn.labels)) < len(decoding.labels):
            continue
        for weight in _WEIGHTS:
            weights = (weight,) * len(decoding.labels)
            space = _space(decoding, features.model_copy(update={"weights": weights}), drawn)
            for person in np.unique(others.groups)[:_MOST_PEOPLE]:
                own = others.of(others.groups == person)
                for label in np.unique(own.labels):
                    found = np.flatnonzero(own.labels == label)
                    if len(found) <= EXAMPLES:
                        continue
                    later = own.of(np.setdiff1d(np.arange(len(own.labels)), found[:EXAMPLES]))
                    vectors = _vectors(space, own.of(found[:EXAMPLES]))
                    placed = space.place([anchor_of(decoding.labels[label], vectors)])
                    scores = _scores(decoding.labels, later)
                    answered = placed.answer_vectors(scores, _vectors(space, later))
                    right[weight].append(_right(answered, later.labels))
                    if weight == _WEIGHTS[0]:
                        before.append(_right(scores, later.labels))
    if not before:
        return float(EXAMPLES), 0.0, 0.0
    means = {weight: float(np.mean(found)) for weight, found in right.items()}
    best = max(reversed(_WEIGHTS), key=lambda weight: means[weight])
    return best, means[best], float(np.mean(before))


def _scores(labels: tuple[str, ...], part: LabelledFeatures) -> ClassScores:
    valid = np.ones(len(part.labels), dtype=np.bool_)
    winners = part.probabilities.argmax(axis=1)
    return ClassScores(labels, part.probabilities, winners, valid, valid, part.features)


def _right(scores: ClassScores, labels: NDArray[np.int64]) -> float:
    """Mean over the classes of the share of their windows that are right."""
    is_right = scores.winners == labels
    return float(np.mean([is_right[labels == label].mean() for label in np.unique(labels)]))
