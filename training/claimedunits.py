"""Whether readings can be in the units that their data set claims.

A student works in the units that its manifest states, because a gateway gives it raw readings. Data
that were scaled before, or are in another unit, train a student that is far off on real readings,
and no comparison on these data shows it. So readings are compared with the physics of their unit,
and with what the student has seen that scores the stream now.
"""

from __future__ import annotations

from collections.abc import Iterable

from models.artifact import Artifact
from models.manifest import Channel
from models.seen import Seen
from training.errors import DataSetError

__all__ = ["require_claimed_units"]

_COLD_K = 50.0
"""No machine is colder: a temperature below it is no temperature in its unit."""
_LOWEST = {
    "K": _COLD_K,
    "R": _COLD_K * 1.8,
    "degC": _COLD_K - 273.15,
    "degF": _COLD_K * 1.8 - 459.67,
    "%": 0.0,
    "psia": 0.0,
    "hPa": 0.0,
    "mbar": 0.0,
}
"""Lowest median that readings in a unit can have; units without one are not in the table."""
_HIGHEST = {"K": 5e3, "R": 9e3, "degC": 5e3, "degF": 9e3}


def require_claimed_units(
    title: str,
    channels: Iterable[Channel],
    seen: Seen,
    running: Artifact | None,
    *,
    new_range: bool = False,
) -> None:
    """Refuse readings that cannot be in the units of their channels.

    A channel is far from what the running student has seen if all but a thousandth of its readings
    lie further outside than the seen range is wide.

    Args:
        title: Title of the data set, for the message.
        channels: Channels with their units, in order.
        seen: Range of the readings (`models.describe.seen_range`).
        running: Student that scores the stream now.
        new_range: Accept readings far from what the running student has seen.

    Raises:
        DataSetError: A channel is physically impossible in its unit, or far from what the running
            student has seen.
    """
    channels = tuple(channels)
    ranges = dict(zip(channels, zip(seen.low, seen.middle, seen.high, strict=True), strict=True))
    impossible = [
        f"{channel.name} from {low:g} to {high:g} {channel.unit}"
        for channel, (low, middle, high) in ranges.items()
        if not _LOWEST.get(channel.unit, middle) <= middle <= _HIGHEST.get(channel.unit, middle)
    ]
    if impossible:
        msg = (
            f"{title}: {_few(impossible)} is impossible, so the readings are scaled or in another "
            "unit. Give them raw, in the unit that is stated, because a gateway scores raw readings"
        )
        raise DataSetError(msg)
    if running is None or running.manifest.seen is None or new_range:
        return
    known = {
        channel: (low, high)
        for channel, low, high in zip(
            running.manifest.channels,
            running.manifest.seen.low,
            running.manifest.seen.high,
            strict=True,
        )
    }
    far = [
        f"{channel.name} lies between {low:g} and {high:g} {channel.unit}, and it has seen "
        f"{known[channel][0]:g} to {known[channel][1]:g}"
        for channel, (low, middle, high) in ranges.items()
        if channel in known and _is_far(low, high, *known[channel])
    ]
    if far:
        manifest = running.manifest
        msg = (
            f"{title} is far from what the running {manifest.name} v{manifest.version} has learned "
            f"from: {_few(far)}. If the readings are scaled or in another unit, give them raw; if "
            "the machines really work there, add --new-range"
        )
        raise DataSetError(msg)


def _is_far(low: float, high: float, seen_low: float, seen_high: float) -> bool:
    width = max(seen_high - seen_low, 1e-3 * abs(seen_high))
    return high < seen_low - width or low > seen_high + width


def _few(texts: list[str]) -> str:
    return "; ".join(texts[:3]) + (f"; and {len(texts) - 3} more" if len(texts) > 3 else "")
