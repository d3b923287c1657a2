"""Test windows under conditions that training did not have: a lost channel, a short history.

Zero-shot is the third condition: `TRANSFERS` names the set that a model of another set forecasts,
standardised by its own training part, as in the literature. `UNSEEN` names sets of other kinds of
devices, which are as strange to a model as a customer's own series.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from training.datasets.series import SeriesWindows

__all__ = ["DISTURBANCES", "MISSING", "SHORT", "TRANSFERS", "UNSEEN", "disturb"]

MISSING = "channel missing"
SHORT = "short history"
DISTURBANCES = (MISSING, SHORT)
"""Kinds of disturbed windows."""
TRANSFERS: Mapping[str, str] = MappingProxyType({"ETTh1": "ETTh2", "ETTm1": "ETTm2"})
"""Set that a model of another set forecasts without having seen it."""
UNSEEN: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"ETTh1": ("Beijing-air", "Weather", "Exchange", "ILI")}
)
"""Sets of another kind of device that a model of a set forecasts without having seen any of it."""


@dataclass(frozen=True, slots=True)
class _Disturbed(SeriesWindows):
    """Windows whose look-backs are changed when they are cut; targets stay what they are."""

    kind: str = MISSING

    def inputs(self, index: NDArray[np.int64] | slice | None = None) -> NDArray[np.float32]:
        """Return the changed look-backs `[n, length, channels]`."""
        rows = SeriesWindows.inputs(self, index)  # slots: super() does not work here
        if self.kind == SHORT:
            half = self.length // 2
            rows[:, :half] = rows[:, half : half + 1]
            return rows
        places = np.arange(len(self)) if index is None else np.arange(len(self))[index]
        rows[np.arange(len(rows)), :, places % rows.shape[2]] = 0
        return rows


def disturb(windows: SeriesWindows, kind: str) -> SeriesWindows:
    """Return the same windows with other look-backs.

    Args:
        windows: Windows of a part.
        kind: `channel missing`: window i lacks channel i modulo channels; it reads the mean of the
            training part, which is 0. `short history`: the older half of the look-back is not
            known; it repeats the oldest known reading.

    Raises:
        ValueError: There is no such kind.
    """
    if kind not in DISTURBANCES:
        msg = f"disturb: kind is {kind!r}, expected one of {', '.join(DISTURBANCES)}"
        raise ValueError(msg)
    own = {field.name: getattr(windows, field.name) for field in fields(SeriesWindows)}
    return _Disturbed(**own, kind=kind)
