"""A kind of answer: one of several classes, such as an activity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from models.tasks.classfeatures import FEATURES, ClassFeatures
from models.tasks.columns import Column
from models.tasks.fields import MAX_LABELS, ClassLabel, Decoding, Float32, Frozen, require_unique
from models.tasks.moved import Moved, Neutral
from models.tasks.number import Interval
from models.tasks.outputs import Decode, Outputs, Tolerances
from models.tasks.traits import Traits

__all__ = [
    "PROBABILITIES",
    "PROBABILITY",
    "PROBABILITY_PREFIX",
    "UNKNOWN",
    "ClassAnswer",
    "ClassScores",
    "ClassesDecoding",
    "Unknown",
]

UNKNOWN = "unknown"
"""The label of a window that resembles none of the classes; see `Unknown`."""
PROBABILITY = "probability"
"""Field of the largest probability."""
PROBABILITIES = "probabilities"
"""Key of a score record that holds the probability of each label."""
PROBABILITY_PREFIX = "p_"
"""Before the label in the name of a class's probability field, as in `p_WALKING`."""
# How much a probability may depend on the batch around it: float32 sums in another order at another
# batch size, and a vote of anchors far apart multiplies the difference.
_REPEATABLE = 1e-4
_REPEATABLE_FEATURE = 5e-3
"""The same for a feature: one step of an eight-bit layer may fall to the other side."""


class Unknown(Frozen):
    """The rule for windows of no known class: the largest probability is below `threshold`.

    `rejects` is the share of windows of known classes that fell below it at calibration.
    """

    threshold: Annotated[Float32, Field(gt=0, lt=1)]
    rejects: Annotated[Float32, Field(ge=0, lt=1)]


class ClassesDecoding(Decoding):
    """Output `probabilities` [batch, classes], in the order of `labels`.

    `features` came later: with it, the graph has a second output, and labelled windows can give a
    label a place (`models.anchors`). A gateway of before refuses such a student.
    """

    kind: Literal["classes"]
    output: Literal["probabilities"]
    labels: Annotated[tuple[ClassLabel, ...], Field(min_length=2, max_length=MAX_LABELS)]
    unknown: Unknown | None = None
    features: ClassFeatures | None = None

    @model_validator(mode="after")
    def _unique(self) -> ClassesDecoding:
        require_unique("labels", self.labels)
        if self.unknown is not None and UNKNOWN in self.labels:
            msg = f"labels hold {UNKNOWN!r}, the label of windows below unknown.threshold"
            raise ValueError(msg)
        if self.features is not None and len(self.features.weights) != len(self.labels):
            msg = f"features has {len(self.features.weights)} classes for {len(self.labels)} labels"
            raise ValueError(msg)
        return self


@dataclass(frozen=True, slots=True)
class ClassScores:
    """Class probabilities of a batch.

    Attributes:
        labels: Class names, in the order of the columns of `probabilities`.
        probabilities: [batch, classes] float32.
        winners: [batch] int64 index of the most probable class (the first one of a tie).
        valid: [batch] False where the window or the output was not finite; such rows hold 0.
        known: [batch] False where the largest probability is below the threshold of the manifest:
            the window resembles no class that the student has learned.
        features: [batch, size] where they were asked for, of length 1, else None; see
            `models.anchors`.
    """

    labels: tuple[str, ...]
    probabilities: NDArray[np.float32]
    winners: NDArray[np.int64]
    valid: NDArray[np.bool_]
    known: NDArray[np.bool_]
    features: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.winners)

    @property
    def values(self) -> NDArray[np.float32]:
        """The probabilities, [batch, classes] float32."""
        return self.probabilities

    def take(self, rows: NDArray[np.intp]) -> ClassScores:
        """Some of the rows, in the order given."""
        features = None if self.features is None else self.features[rows]
        return type(self)(
            self.labels,
            self.probabilities[rows],
            self.winners[rows],
            self.valid[rows],
            self.known[rows],
            features,
        )

    def label(self, row: int) -> str:
        """Label of the most probable class of a row; `UNKNOWN` where the class is not known."""
        return self.labels[int(self.winners[row])] if self.known[row] else UNKNOWN

    def probability(self, row: int) -> float:
        """The largest probability of a row, also where the class is not known."""
        return float(self.probabilities[row, self.winners[row]])


@dataclass(frozen=True, slots=True)
class ClassAnswer:
    """One of the classes in `decoding.labels` per window; the output is `[batch, classes]`.

    Attributes:
        field: Field of the score record and of the measurement that holds the label.
        scores: Class of the scores.
    """

    field: str
    scores: type[ClassScores] = ClassScores

    @property
    def has_interval(self) -> bool:
        """A class has no interval."""
        return False

    @property
    def headline_field(self) -> str:
        """The field that stands for the whole score."""
        return self.field

    def outputs(self, decoding: ClassesDecoding) -> dict[str, tuple[int, ...]]:
        """One probability per class, and the features of a student that has them."""
        outputs: dict[str, tuple[int, ...]] = {decoding.output: (len(decoding.labels),)}
        features = decoding.features
        return outputs if features is None else {**outputs, features.output: (features.size,)}

    def unit(self, decoding: ClassesDecoding) -> str:
        """A class has no unit."""
        return ""

    def labels(self, decoding: ClassesDecoding) -> tuple[str, ...]:
        """Labels of the classes, in the order of the output."""
        return decoding.labels

    def tolerance(self, decoding: ClassesDecoding) -> Tolerances:
        """Largest change with the batch around it: 1e-4 of a probability, 5e-3 of a feature."""
        limits = {decoding.output: _REPEATABLE, FEATURES: _REPEATABLE_FEATURE}
        return {name: limits[name] for name in self.outputs(decoding)}

    def flaw(self, raw: Outputs, decoding: ClassesDecoding) -> str | None:
        """The fault in the outputs of the self-test, or None."""
        shares = raw[decoding.output]
        error = float(np.max(np.abs(shares.sum(axis=1) - 1)))
        if error > 1e-3 or shares.min() < 0:
            return (
                f"class probabilities do not sum to 1 (error {error:.3g}, smallest "
                f"{shares.min()}): end the graph with Softmax"
            )
        if FEATURES in raw:
            longest = float(np.linalg.norm(raw[FEATURES], axis=1).max())
            if longest > 1 + _REPEATABLE_FEATURE:
                return f"a feature has length {longest:.3g}: divide features by their length"
        return None

    def decoder(self, decoding: ClassesDecoding, interval: Interval | None) -> Decode[ClassScores]:
        """Scores of raw outputs `[batch, classes]`; invalid rows hold 0."""
        unknown = decoding.unknown
        threshold = None if unknown is None else np.float32(unknown.threshold)

        def decode(
            raw: Outputs, valid: NDArray[np.bool_], windows: NDArray[np.float32]
        ) -> ClassScores:
            clean = np.where(valid[:, None], raw[decoding.output], np.float32(0))
            known = np.ones(len(clean), dtype=np.bool_)
            if threshold is not None:
                known = clean.max(axis=1) >= threshold
            features = raw.get(FEATURES)
            if features is not None:
                features = np.where(valid[:, None], features, np.float32(0))
            return self.scores(decoding.labels, clean, clean.argmax(axis=1), valid, known, features)

        return decode

    def columns(self, scores: ClassScores) -> dict[str, Column]:
        """Fields of the scores, as columns."""
        probabilities = scores.probabilities
        names = [*scores.labels, UNKNOWN]
        places = np.where(scores.known, scores.winners, len(scores.labels)).tolist()
        return {
            self.field: [names[place] for place in places],
            PROBABILITY: probabilities[np.arange(len(places)), scores.winners],
            PROBABILITIES: dict(zip(scores.labels, probabilities.T, strict=True)),
        }

    def window_errors(
        self, truth: NDArray[Any], values: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """1 for each window whose most probable class is wrong, else 0: `[n]`, `[n, classes]`."""
        return np.asarray(values.argmax(axis=1) != truth, dtype=np.float64)

    def health(self, scores: ClassScores) -> dict[str, float]:
        """Live health figures of a batch; empty without a valid score."""
        if not scores.valid.any():
            return {}
        largest = scores.probabilities[scores.valid].max(axis=1).astype(np.float64)
        return {
            "unknown_share": float(np.mean(~scores.known[scores.valid])),
            "mean_probability": float(largest.mean()),
        }

    def disagreement(
        self, champion: ClassScores, challenger: ClassScores, decoding: ClassesDecoding
    ) -> NDArray[np.float64]:
        """1 for each window to which they give other classes, by name, else 0."""
        return np.asarray(_labels(champion) != _labels(challenger), dtype=np.float64)

    def unfamiliar(self, scores: ClassScores) -> None:
        """A window that resembles no class has the label `UNKNOWN`."""

    def traits(
        self, scores: ClassScores, decoding: ClassesDecoding, windows: NDArray[np.float32]
    ) -> Traits:
        """The class of each window, and which of them are unknown."""
        return Traits(
            numbers=np.empty((len(scores), 0), dtype=np.float32),
            grain=np.empty(0, dtype=np.float32),
            labels=_labels(scores),
            unknown=~scores.known,
        )

    @property
    def neutral(self) -> Neutral:
        """Gravity in the readings tells the posture, and their course the movement."""
        return "mixed"

    def expected(self, scores: ClassScores) -> None:
        """Readings are not forecast."""

    def moved(
        self, before: ClassScores, after: ClassScores, decoding: ClassesDecoding
    ) -> tuple[Moved]:
        """The change of the probability of the class that won, even where it is not known.

        A window with replaced readings is often far from every class. The guard of a student that
        knows unknown windows then mixes in equal probabilities, whichever readings were replaced,
        so these are taken out first: they hide which readings speak for the class.
        """
        winner = int(before.winners[0])
        was, became = (
            (_without_doubt(scores.probabilities) if decoding.unknown else scores.probabilities)
            for scores in (before, after)
        )
        change = np.asarray(was[0, winner] - became[:, winner], dtype=np.float64)
        return (Moved(f"probability of {before.labels[winner]}", "1", change, _REPEATABLE),)


def _labels(scores: ClassScores) -> NDArray[np.str_]:
    """Label of every row, [n]; `UNKNOWN` where the class is not known."""
    return np.where(scores.known, np.array(scores.labels)[scores.winners], UNKNOWN)


def _without_doubt(probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities [n, classes] without what all classes have in common; else equal ones."""
    rest = probabilities.astype(np.float64) - probabilities.min(axis=1, keepdims=True)
    total = rest.sum(axis=1, keepdims=True)
    known: NDArray[np.float64] = np.full_like(rest, 1 / rest.shape[1])
    np.divide(rest, total, out=known, where=total > _REPEATABLE)
    return known
