"""Whether a score can be trusted: its field `quality`. Pure.

`good`, or flags joined by `; `, each with its channels: `range: T24, T30; constant: acc_x`. What
raises a flag is in `pipeline.scoring.quality`. A flag never changes the score.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.tasks.columns import Columns

__all__ = ["GOOD", "QUALITY", "UNFAMILIAR", "doubtful", "is_doubtful", "unfamiliar"]

QUALITY = "quality"
"""Name of the field."""
GOOD = "good"
UNFAMILIAR = "unfamiliar"
"""The flag of a window that is unlike what the student has learned. Where it stands alone, the
readings themselves are in order, and the interval of the score is widened."""


def is_doubtful(fields: Mapping[str, Any]) -> bool:
    """Whether a score is flagged; one of an older version, without the field, is not.

    >>> is_doubtful({"rul": 5.0, "quality": "range: T24"}), is_doubtful({"rul": 5.0})
    (True, False)
    """
    return bool(fields.get(QUALITY, GOOD) != GOOD)


def doubtful(columns: Columns, size: int) -> NDArray[np.bool_]:
    """Which of `size` scores, given as columns, are flagged: `[size]`; see `is_doubtful`."""
    quality = columns.get(QUALITY, GOOD)
    if isinstance(quality, str):
        return np.full(size, quality != GOOD)
    return np.array([flags != GOOD for flags in quality], dtype=np.bool_)


def unfamiliar(columns: Columns, size: int) -> NDArray[np.bool_]:
    """Which of `size` scores, given as columns, have `UNFAMILIAR` as their only flag: `[size]`."""
    quality = columns.get(QUALITY, GOOD)
    if isinstance(quality, str):
        return np.full(size, quality == UNFAMILIAR)
    return np.array([flags == UNFAMILIAR for flags in quality], dtype=np.bool_)
