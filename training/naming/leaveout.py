"""What naming reaches on known activities, each left out in turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.naming.names import Described, fit_named, fit_views
from training.windows import WindowSet

__all__ = ["LeftOut", "leave_each_out"]

_LEAST_CLASSES = 3  # two known ones and the one that is left out


@dataclass(frozen=True, slots=True)
class LeftOut:
    """One known activity, as if it were new.

    Attributes:
        label: Index of the activity.
        recall: Share of its windows, of held-out people, that get its name.
        false_alarms: Share of the other windows that get its name.
        by_chance: The recall if descriptions are assigned to the wrong activities.
    """

    label: int
    recall: float
    false_alarms: float
    by_chance: float


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

    Nothing is trained, so the encoder of the student has seen the activity, and its features leave
    no place for it between the others. So the recall is too low rather than too high: 0.45 on
    average where students that have not seen the activity reach 0.50 (held-out people of three
    sets). It is no reason to leave the features out: without them those students reach 0.38.

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
        rest = {view: some[of_known] for view, some in kept.items()}
        shares = []
        for shift in (0, 1):  # 1: everybody's description is that of the next
            rows = [labels[(labels.index(label) + shift) % len(labels)] for label in others]
            new = labels[(labels.index(left) + shift) % len(labels)]
            named = fit_named(
                views,
                statistics,
                known.rows(rows),
                known.rows([new]),
                rest,
                held_out.groups[of_known],
                share,
            )
            is_named = named.is_named(kept)
            own = is_named[~of_known]
            shares.append(
                (float(own.mean()) if len(own) else 0.0, float(is_named[of_known].mean()))
            )
        if (~of_known).any():
            found.append(LeftOut(left, shares[0][0], shares[0][1], shares[1][0]))
    return found
