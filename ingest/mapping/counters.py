"""Counters of the mappings in force."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from ingest.mapping.joining import JoinCounters

__all__ = ["MappingCounters"]


@dataclass(slots=True)
class MappingCounters:
    """What has become of the messages of one mapping since the start; every number only grows.

    Attributes:
        messages_total: Messages on its topics.
        readings_total: Readings made of them.
        refused_total: Messages refused, in part or as a whole; each is a dead letter.
        ignored_total: Messages, or objects in them, that the file leaves out (`devices`, `when`).
        retained_total: Retained messages without a time of their own, which came with the
            subscription: nobody knows when they were measured, so they are no readings.
        other_sites_total: Readings of sites that this bridge does not take
            (`KPSTREAM_INGEST_MQTT_SITES`).
        join: Accounts of values that come apart.
    """

    messages_total: int = 0
    readings_total: int = 0
    refused_total: int = 0
    ignored_total: int = 0
    retained_total: int = 0
    other_sites_total: int = 0
    join: JoinCounters = field(default_factory=JoinCounters)

    def as_dict(self, *, joins: bool) -> dict[str, int]:
        """Return all counters; those of joins only if the mapping has any."""
        found: dict[str, int] = asdict(self)
        accounts: dict[str, int] = found.pop("join")  # type: ignore[assignment]
        if joins or accounts["values_total"]:
            found |= {f"join_{name}": value for name, value in accounts.items()}
        return found
