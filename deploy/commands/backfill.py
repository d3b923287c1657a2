"""Old readings that are published again: which would be late, and windows of their own for them.

A device that goes on sending has moved its watermark. Readings that are published again then are
late and never scored. `--backfill` publishes them under a device name of their own, such as
`press-2.backfill-20260131T101500`: its windows hold the old span only, the results are marked by
the name, and the live windows of the device are untouched. The name has the time of the first
reading, so a second run meets the same name and changes nothing (duplicates).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from ingest.deadletter import DeadLetter
from ingest.errors import RefusedMessage
from ingest.payloads import decode_payload, event_times
from ingest.topics import Address, is_name

__all__ = ["Lateness", "Progress", "address_of", "backfilled", "find_late", "times_of"]

Progress = Mapping[tuple[str, str, str], int]
"""Largest event time of each (site, device, stream), epoch milliseconds."""


@dataclass(frozen=True, slots=True)
class Lateness:
    """Readings of one stream of a device that would be late.

    Attributes:
        late: Number of them.
        readings: Number of all that were chosen.
        newest_ms: What the device has sent since, epoch milliseconds.
    """

    address: Address
    late: int
    readings: int
    newest_ms: int

    def __str__(self) -> str:
        newest = datetime.fromtimestamp(self.newest_ms / 1000, timezone.utc)
        return (
            f"{'/'.join(self.address)}: {self.late} of {self.readings} readings would be late, "
            f"because the device has sent until {newest:%Y-%m-%d %H:%M:%S} UTC"
        )


def address_of(dead_letter: DeadLetter) -> Address | None:
    """The device of a dead letter: the last three levels of its topic."""
    levels = dead_letter.mqtt_topic.split("/")
    names = levels[-3:]
    return Address(*names) if len(levels) >= 4 and all(map(is_name, names)) else None


def times_of(dead_letter: DeadLetter) -> list[int]:
    """Event times of the readings in a dead letter; empty if it is no message with readings.

    >>> from ingest.errors import RefusalReason
    >>> raw = b'{"ts": 1700000000000, "values": {"a": 1}}'
    >>> times_of(DeadLetter(RefusalReason.late, "", "sensors/a/b/c", 0, raw, "windows"))
    [1700000000000]
    """
    try:
        times: list[int] = event_times(decode_payload(dead_letter.raw)).tolist()
    except RefusedMessage:
        return []
    return times


def find_late(
    dead_letters: Iterable[DeadLetter], progress: Progress, lateness_ms: int
) -> list[Lateness]:
    """The devices whose readings would be late now, with how many.

    Args:
        dead_letters: Those to be published again.
        progress: Of the running pipeline.
        lateness_ms: Lateness of the pipeline.
    """
    late: dict[Address, int] = {}
    readings: dict[Address, int] = {}
    newest: dict[Address, int] = {}
    for dead_letter in dead_letters:
        address = address_of(dead_letter)
        if address is None:
            continue
        newest_ms = progress.get((address.site, address.device, address.stream))
        times = times_of(dead_letter)
        readings[address] = readings.get(address, 0) + len(times)
        if newest_ms is not None:
            newest[address] = newest_ms
            behind = sum(ts_ms < newest_ms - lateness_ms for ts_ms in times)
            late[address] = late.get(address, 0) + behind
    return [
        Lateness(address, count, readings[address], newest[address])
        for address, count in sorted(late.items())
        if count
    ]


def backfilled(dead_letters: Sequence[DeadLetter]) -> tuple[list[DeadLetter], int]:
    """The same readings for devices of their own, in the order of their event times.

    Returns:
        The messages, and how many have no readings that could be windowed.
    """
    by_address: dict[Address, list[tuple[int, DeadLetter]]] = {}
    left_out = 0
    for dead_letter in dead_letters:
        address, times = address_of(dead_letter), times_of(dead_letter)
        if address is None or not times:
            left_out += 1
        else:
            by_address.setdefault(address, []).append((min(times), dead_letter))
    found = []
    for address, parts in sorted(by_address.items()):
        parts.sort(key=lambda part: part[0])
        own = address._replace(device=_own_name(address.device, parts[0][0]))
        for _, dead_letter in parts:
            levels = dead_letter.mqtt_topic.split("/")
            topic = "/".join([*levels[:-3], *own])
            found.append(replace(dead_letter, mqtt_topic=topic))
    return found, left_out


def _own_name(device: str, first_ms: int) -> str:
    """Name of the device of a back-filled span; a long name of the device is cut at its end.

    >>> _own_name("press-2", 1_700_000_000_000)
    'press-2.backfill-20231114T221320'
    """
    first = datetime.fromtimestamp(first_ms / 1000, timezone.utc)
    end = f".backfill-{first:%Y%m%dT%H%M%S}"
    return device[: 64 - len(end)] + end
