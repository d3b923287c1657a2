"""Why a birth matches no stream: in words, by name, and bounded. Pure.

A device whose birth matches no stream sends for ever without one reading and without one dead
letter. Most often a name differs in its letter case only, the metrics are inside a Template, or the
pattern of the stream does not fit the path.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ingest.sparkplug.counters import SHOWN_NAMES
from ingest.sparkplug.names import StreamMapping
from ingest.sparkplug.nodes import Device
from ingest.sparkplug.wire import TEMPLATE

__all__ = ["notice_of"]

_SHOWN = 80
_OWN = ("bdSeq", "Node Control/", "Device Control/", "Node Info/", "Device Info/", "Properties/")


def notice_of(path: str, device: Device, streams: Sequence[StreamMapping]) -> str | None:
    """Return why a device without streams has none.

    None for a node that only carries the metrics every node has, and for one without a near miss:
    nodes seldom have streams of their own.

    Args:
        path: `<group>/<node>` or `<group>/<node>/<device>`.
        device: Metrics of its birth.
        streams: Streams of the mapping.
    """
    if not device.types:
        return None
    for stream in streams:
        miss = _near_miss(path, device, stream)
        if miss is not None:
            return f"{path[:_SHOWN]}: {miss}"
    own = [name for name in device.types if not name.startswith(_OWN)]
    if not device.name or not own:
        return None
    templates = [name for name in own if device.types[name] == TEMPLATE]
    inside = f", among them the Template (UDT) {_shown(templates)}" if templates else ""
    return (
        f"{path[:_SHOWN]}: none of its {len(own)} metrics is in the mapping{inside}: {_shown(own)}"
    )


def _near_miss(path: str, device: Device, stream: StreamMapping) -> str | None:
    wanted = stream.metric_names
    lacking = [name for name in wanted if name not in device.types]
    where = f"stream {stream.name}"
    if not lacking:
        if stream.fits(path):
            return None  # a metric that is no number: its birth is a dead letter
        patterns = ", ".join(repr(each[:_SHOWN]) for each in stream.devices[:SHOWN_NAMES])
        return f"it has all metrics of {where}, but its path fits none of its `devices` {patterns}"
    folded = {name.casefold(): name for name in device.types}
    pairs = [(name, folded[name.casefold()]) for name in lacking if name.casefold() in folded]
    if pairs:
        named = _shown([f"{found} (mapped: {name})" for name, found in pairs])
        return f"{where}: {len(pairs)} metrics differ in letter case only: {named}"
    ends: dict[str, str] = {}
    for name in device.types:
        ends.setdefault(name.rpartition("/")[2], name)
    inside = [ends[name] for name in lacking if name in ends and ends[name] != name]
    if inside:
        return f"{where}: metrics have a longer name in the birth, map them so: {_shown(inside)}"
    if len(lacking) < len(wanted) and stream.fits(path):
        return f"{where}: the birth has no {_shown(lacking)}"
    return None


def _shown(names: Iterable[str]) -> str:
    found = [name[: 2 * _SHOWN] for name in names]
    more = f" and {len(found) - SHOWN_NAMES} more" if len(found) > SHOWN_NAMES else ""
    return ", ".join(found[:SHOWN_NAMES]) + more
