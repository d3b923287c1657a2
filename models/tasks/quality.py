"""Whether a score can be trusted: its field `quality`. Pure.

`good`, or flags joined by `; `, each with its channels: `range: T24, T30; constant: acc_x`. What
raises a flag is in `pipeline.scoring.quality`. A flag never changes the score.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["GOOD", "QUALITY", "is_doubtful"]

QUALITY = "quality"
"""Name of the field."""
GOOD = "good"


def is_doubtful(fields: Mapping[str, Any]) -> bool:
    """Whether a score is flagged; one of an older version, without the field, is not.

    >>> is_doubtful({"rul": 5.0, "quality": "range: T24"}), is_doubtful({"rul": 5.0})
    (True, False)
    """
    return bool(fields.get(QUALITY, GOOD) != GOOD)
