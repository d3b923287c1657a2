"""The topic of a draft: which levels are places, and what they name. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ingest.mapping.guesses import unit_guess

__all__ = ["TopicDraft", "draft_topic", "is_generic", "quantity_of"]

_GENERIC = {
    "state", "value", "get", "status", "data", "telemetry", "sensor", "sensors", "up", "events",
    "event", "rpc", "me", "device", "devices", "gateway", "node", "nodes", "uplink", "upload",
    "measurement", "measurements", "reading", "readings", "json", "raw", "info", "attributes",
}  # fmt: skip
"""Levels that name no device."""
_HEADS = {"device", "devices", "node", "nodes", "machine", "machines", "gateway", "gateways"}
"""Levels behind which the device is named."""
_SPECIAL = set("+#{}")


@dataclass(frozen=True, slots=True)
class TopicDraft:
    """A drafted topic.

    Attributes:
        text: The topic with its places.
        places: Level and name of each place, in order.
        quantity: Level and name of the place that tells the channel; None: there is none.
        left_out: Topics that it does not take, because a pattern cannot write them.
        has_prefix: The level of the quantity begins with the name of the device.
    """

    text: str
    places: tuple[tuple[int, str], ...]
    quantity: tuple[int, str] | None
    left_out: tuple[str, ...] = ()
    has_prefix: bool = False


def draft_topic(topics: Sequence[str], *, has_quantity: bool) -> TopicDraft:
    """Find the places in topics of one number of levels.

    A level that differs is a place; of a single device, the level that looks like its name is.

    >>> draft_topic(["tele/plug-1/SENSOR", "tele/plug-2/SENSOR"], has_quantity=False).text
    'tele/{device}/SENSOR'
    >>> draft_topic(["home/hall/power", "home/hall/voltage"], has_quantity=True).text
    'home/{device}/{quantity}'

    Args:
        topics: The topics.
        has_quantity: Whether a level tells which channel a message carries.
    """
    rows = [topic.split("/") for topic in topics]
    kept = [row for row in rows if not row[0].startswith("$")]
    left_out = tuple("/".join(row) for row in rows if row not in kept)
    rows = kept or rows
    count = len(rows[0])
    varying = [at for at in range(count) if len({row[at] for row in rows}) > 1]
    quantity = _quantity_level(rows, varying) if has_quantity else None
    devices = [at for at in varying if at != quantity]
    if all(row[at].isdigit() for row in rows for at in devices):
        devices = sorted({*devices, *_device_level(rows[0], {quantity, *devices})})
    names = dict(zip(devices, _device_names(rows, devices), strict=True))
    for at in range(count):
        if at not in names and at != quantity and set(rows[0][at]) & _SPECIAL:
            names[at] = f"level_{at + 1}"
    levels = [f"{{{names[at]}}}" if at in names else rows[0][at] for at in range(count)]
    places = sorted(names.items())
    if quantity is None:
        return TopicDraft("/".join(levels), tuple(places), None, left_out)
    has_prefix = not devices and all(_split(row[quantity])[0] for row in rows)
    levels[quantity] = "{device}_{quantity}" if has_prefix else "{quantity}"
    if has_prefix:
        places.append((quantity, "device"))
    return TopicDraft("/".join(levels), tuple(places), (quantity, "quantity"), left_out, has_prefix)


def is_generic(level: str) -> bool:
    """Whether a level is a word that names neither a device nor what it sends."""
    return level.lower() in _GENERIC


def quantity_of(text: str, *, has_prefix: bool) -> str:
    """Return the quantity that a level names, behind the name of the device if it has one.

    >>> quantity_of("kitchen_temperature", has_prefix=True)
    'temperature'
    """
    return _split(text)[1] if has_prefix else text


def _split(text: str) -> tuple[str, str]:
    """Split `<device>_<quantity>`; the device is empty if that is no quantity that has a unit."""
    head, _, tail = text.rpartition("_")
    return (head, tail) if head and unit_guess(tail, [1000.0]) is not None else ("", text)


def _device_names(rows: Sequence[Sequence[str]], devices: Sequence[int]) -> list[str]:
    """Name the places: the device is the longest one that is no number, the others are parts."""
    if not devices:
        return []
    lengths = {
        at: 0 if all(row[at].isdigit() for row in rows) else max(len(row[at]) for row in rows)
        for at in devices
    }
    device = max(devices, key=lambda at: (lengths[at], -at))
    others = iter(range(2, len(devices) + 1))
    return ["device" if at == device else f"part_{next(others)}" for at in devices]


def _quantity_level(rows: Sequence[Sequence[str]], varying: Sequence[int]) -> int:
    """Return the level whose texts are most like quantities, the last one if they are equal."""
    last = len(rows[0]) - 1
    if not varying:
        return last - 1 if rows[0][last].lower() in _GENERIC and last > 0 else last

    def likeness(at: int) -> tuple[float, float, int]:
        texts = {row[at] for row in rows}
        known = sum(unit_guess(text, [1000.0]) is not None for text in texts) / len(texts)
        plain = sum(not any(c.isdigit() for c in text) for text in texts) / len(texts)
        return known, plain, at

    return max(varying, key=likeness)


def _device_level(row: Sequence[str], taken: set[int | None]) -> list[int]:
    """Return the level that looks like the name of the only device; empty: none does."""
    levels = [at for at in range(1, len(row)) if at not in taken and row[at]]
    own = [at for at in levels if row[at].lower() not in _GENERIC]
    headed = [at for at in own if row[at - 1].lower() in _HEADS]
    marked = [at for at in own if any(c.isdigit() for c in row[at])]
    if headed or marked:
        return headed[:1] or [max(marked, key=lambda at: len(row[at]))]
    return own[:1]
