"""What naming reaches on known activities, each left out in turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.naming.names import MOVEMENT, Described, fit_named, fit_views
from training.windows import WindowSet

__all__ = ["LeftOut", "leave_each_out"]

_LEAST_CLASSES = 3  # two known ones and the one that is left out


@dataclass(frozen=True, slots=True)
class LeftOut:
    """One known activity, as if it were new.

    Attributes:
        label: Index of the activity.
        recall: Share of its windows, of held-out people, that get its name: the middle of the two
            below.
        with_features: This share with all views.
        by_movement: This share by measured movement alone.
        false_alarms: Share of the other windows that get its name.
        by_chance: `by_movement` if descriptions are assigned to the wrong activities. With features
            it would tell nothing: the encoder keeps what it has learned far from all else.
    """

    label: int
    with_features: float
    by_movement: float
    false_alarms: float
    by_chance: float

    @property
    def recall(self) -> float:
        """See above."""
        return (self.with_features + self.by_movement) / 2


def leave_each_out(
    values: Mapping[str, NDArray[np.float32]],
    learned: WindowSet,
    kept: Mapping[str, NDArray[np.float32]],
    held_out: WindowSet,
    known: Described,
    statistics: Sequence[str],
    share: float,
) -> list[LeftOut]:
    """Name each known activity from the others; empty with fewer than three.

    Nothing is trained, so the encoder of the student has seen the activity, and the recall with
    features is too high: 0.57 on average where students that have not seen the activity reach 0.50
    (held-out people of three sets). By movement alone, which has no encoder, it is 0.38. So the
    recall of a `LeftOut` is the middle of both, 0.48.

    Args:
        values: Views of the windows `learned`.
        learned: Windows that the student learned from.
        kept: Views of the windows `held_out`.
        held_out: Windows of other people.
        known: Descriptions of all labels.
        statistics: See `fit_named`.
        share: See `fit_named`.
    """
    labels = [int(label) for label in np.unique(learned.labels)]
    if len(labels) < _LEAST_CLASSES:
        return []
    found = []
    for left in labels:
        others = [label for label in labels if label != left]
        fits = learned.labels != left
        views = fit_views({view: some[fits] for view, some in values.items()}, learned.labels[fits])
        of_known = held_out.labels != left
        if of_known.all():  # nobody who was held out has done it
            continue
        shares = []
        for used, shift in ((tuple(values), 0), ((MOVEMENT,), 0), ((MOVEMENT,), 1)):
            # With shift 1, everybody's description is that of the next.
            rows = [labels[(labels.index(label) + shift) % len(labels)] for label in others]
            new = labels[(labels.index(left) + shift) % len(labels)]
            named = fit_named(
                {view: views[view] for view in used},
                statistics,
                known.rows(rows),
                known.rows([new]),
                {view: kept[view][of_known] for view in used},
                held_out.groups[of_known],
                share,
            )
            is_named = named.is_named(kept)
            shares.append((float(is_named[~of_known].mean()), float(is_named[of_known].mean())))
        (own, alarms), (moved, _), (chance, _) = shares
        found.append(LeftOut(left, own, moved, alarms, chance))
    return found
