"""Open vocabulary: can a student name an activity without a training example?

Some labels are left out of training with all their windows. In the test every label is on offer,
and only anchors describe the unseen ones. Any knowledge in the text must show here: random
and permuted anchors contain nothing about the unseen label, and `attributes` (facts recorded
without an encoder) show what is achievable.

One training has three readouts:

- `kp`: the folded table of the method;
- `span`: anchors projected on the span of the seen ones before they are aligned;
- `mix`: no alignment; the seen anchors, mixed by the probabilities of the seen labels, are compared
  with all anchors (ConSE, Norouzi et al., 2014).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from training.datasets.contract import DataSet, fit_scaler
from training.distill import distill
from training.errors import DataSetError
from training.evaluate import harmonic_mean
from training.methods.open_vocabulary import OpenVocabulary
from training.recipes import Recipe
from training.scoring import scale_windows, score_scaled
from training.students.encoders import build_encoder
from training.students.upright import scaling_of
from training.teachers.anchors import anchors_of
from training.windows import WindowSet, hold_out_groups

__all__ = [
    "READOUTS",
    "alarm_measures",
    "area_under_curve",
    "open_measures",
    "run_open",
    "score_open",
]

READOUTS = ("kp", "span", "mix")

Scores = dict[str, NDArray[np.float32]]


def run_open(data: DataSet, recipe: Recipe, unseen: Sequence[int]) -> dict[str, Any]:
    """Train without some labels and measure on the test people with all labels.

    Returns:
        Readout to its `open_measures` and `alarm_measures`.

    Raises:
        DataSetError: The data have no classes, or no test set.
    """
    if data.labels is None or data.test is None:
        msg = (
            f"{data.title} has no classes or no test set, and open vocabulary needs both: remove "
            "leave_out from the plan"
        )
        raise DataSetError(msg)
    groups = hold_out_groups(data.train.groups, recipe.hold_out, recipe.split_seed)
    known = data.train.where(~np.isin(data.train.labels, unseen))
    seen, held_out = known.without_groups(groups), known.of_groups(groups)
    both = np.concatenate([held_out.windows, data.test.windows])
    found = score_open(
        recipe, seen, both, scaling_of(recipe, data.scaling), anchors_of(recipe).vectors, unseen
    )
    count = len(held_out)
    return {
        name: open_measures(scores[count:], data.test.labels, unseen)
        | alarm_measures(scores[:count], scores[count:], data.test.labels, unseen)
        for name, scores in found.items()
    }


def score_open(
    recipe: Recipe,
    seen: WindowSet,
    windows: NDArray[np.float32],
    scaling: str,
    anchors: NDArray[np.float32],
    unseen: Sequence[int],
) -> Scores:
    """Train on `seen` and compare `windows` with all anchors.

    Args:
        recipe: Recipe; its key `anchors` is not used.
        seen: Windows to learn from, none of them with an unseen label.
        windows: Raw windows to score, `[n, length, channels]`.
        scaling: See `DataSet.scaling`.
        anchors: Anchors `[num_answers, width]`.
        unseen: Labels that only their anchors describe.

    Returns:
        Readout to similarities `[n, num_answers]`.
    """

    def build(recipe: Recipe, length: int, channels: int, counts: NDArray[np.int64]) -> nn.Module:
        encoder = build_encoder(recipe, length, channels)
        return OpenVocabulary(encoder, recipe, anchors, counts, unseen)

    scaler = fit_scaler(scaling, seen.windows)
    run = distill(recipe, seen, scaler, len(anchors), build)
    if run.student is None:  # impossible without a deadline
        return {}
    plain, span = score_scaled(run.student, scale_windows(windows, scaler, None)).swapaxes(0, 1)
    known = [label for label in range(len(anchors)) if label not in unseen]
    shares = np.exp(plain[:, known] - plain[:, known].max(axis=1, keepdims=True))
    mixed = shares / shares.sum(axis=1, keepdims=True) @ anchors[known]
    mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
    return dict(zip(READOUTS, (plain, span, mixed @ anchors.T), strict=True))


def open_measures(
    scores: NDArray[np.float32], truth: NDArray[np.int64], unseen: Sequence[int]
) -> dict[str, float]:
    """Measure `scores` `[n, num_answers]` on labels without training examples.

    Returns:
        `unseen_recall`: mean over unseen labels of the share of their windows that get their name,
        with all labels on offer (chance: 1 / num_answers). `seen_recall`: the same for the seen
        labels. `harmonic`: harmonic mean of both. `auroc`: how well the similarity to an unseen
        anchor, minus that to the nearest seen one, separates its windows from all others (chance:
        0.5; no threshold is chosen). With two unseen labels or more, `among_unseen`: recall with
        only the unseen labels on offer (chance: 1 / number of unseen).
    """
    winners = scores.argmax(axis=1)
    recalls = {
        int(label): float(np.mean(winners[truth == label] == label)) for label in np.unique(truth)
    }
    new = float(np.mean([recalls[label] for label in unseen]))
    old = float(np.mean([value for label, value in recalls.items() if label not in unseen]))
    known = [label for label in range(scores.shape[1]) if label not in unseen]
    beyond = scores - scores[:, known].max(axis=1, keepdims=True)
    found = {
        "unseen_recall": new,
        "seen_recall": old,
        "harmonic": harmonic_mean(new, old),
        "auroc": float(
            np.mean([area_under_curve(beyond[:, label], truth == label) for label in unseen])
        ),
    }
    if len(unseen) > 1:
        order = np.array(sorted(unseen))
        best = order[scores[:, order].argmax(axis=1)]
        found["among_unseen"] = float(
            np.mean([np.mean(best[truth == label] == label) for label in unseen])
        )
    return found


def alarm_measures(
    held_out: NDArray[np.float32],
    scores: NDArray[np.float32],
    truth: NDArray[np.int64],
    unseen: Sequence[int],
    alarm: float = 0.1,
) -> dict[str, float]:
    """Measure recall with a margin, because without one the seen labels win almost always.

    A window gets the nearest unseen label if that is nearer than the nearest seen one by a margin,
    which may be negative. A share `alarm` of the windows of held-out people, all with seen labels,
    exceeds the margin; so it needs no unseen window.

    Args:
        held_out: Similarities `[n, num_answers]` of windows with seen labels.
        scores: Similarities `[m, num_answers]` of the test windows.
        truth: Labels `[m]` of the test windows.
        unseen: Labels without training examples.
        alarm: Share of windows with seen labels that may get an unseen one.

    Returns:
        `alarm_recall`: mean over unseen labels of the share of their windows that get their name
        (chance: `alarm` / number of unseen); `false_alarm`: share of the test windows with seen
        labels that get an unseen name.
    """
    order = np.array(sorted(unseen))

    def beyond(some: NDArray[np.float32]) -> NDArray[np.float32]:
        kept = np.delete(some, order, axis=1)
        return np.asarray(some[:, order].max(axis=1) - kept.max(axis=1))

    is_new = beyond(scores) > np.quantile(beyond(held_out), 1 - alarm)
    named = order[scores[:, order].argmax(axis=1)]
    recalls = [np.mean((is_new & (named == label))[truth == label]) for label in unseen]
    return {
        "alarm_recall": float(np.mean(recalls)),
        "false_alarm": float(np.mean(is_new[~np.isin(truth, unseen)])),
    }


def area_under_curve(scores: NDArray[np.float32], is_class: NDArray[np.bool_]) -> float:
    """Probability that a window of the class scores above another window; ties count half.

    >>> area_under_curve(np.array([1.0, 2.0, 2.0]), np.array([False, True, False]))
    0.75
    """
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    positive = int(is_class.sum())
    if not 0 < positive < len(scores):
        return float("nan")
    total = float(ranks[is_class].sum()) - positive * (positive + 1) / 2
    return total / (positive * (len(scores) - positive))
