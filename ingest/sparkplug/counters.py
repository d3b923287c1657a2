"""Counters of the Sparkplug decoder, and the faults of one message."""

from __future__ import annotations

from dataclasses import dataclass

from ingest.errors import RefusalReason, RefusedMessage

__all__ = ["SHOWN_NAMES", "Faults", "SparkplugCounters"]

SHOWN_NAMES = 5
"""Most names in one human-readable text."""


@dataclass(slots=True)
class SparkplugCounters:
    """Counters of the decoder since its start; every number only grows.

    Attributes:
        births_total: NBIRTH and DBIRTH taken.
        deaths_total: NDEATH and DDEATH taken.
        stale_deaths_total: NDEATH of an earlier session, without effect.
        unsure_deaths_total: NDEATH that may be of an earlier session; the node was asked for a
            birth.
        data_total: NDATA and DDATA taken, in part or as a whole.
        readings_total: Readings made of them.
        duplicates_total: Messages delivered again, without effect.
        seq_gaps_total: Sequence numbers that did not follow the one before.
        lost_messages_total: Messages missing there, at least (the numbers wrap at 256).
        overtaken_total: Of these the messages that came after all, overtaken by later ones.
        bdseq_gaps_total: Births whose session number does not follow the last one known.
        rebirths_requested_total: Commands sent to nodes.
        commands_total: Commands of hosts to nodes, ours included, that came by; without effect.
    """

    births_total: int = 0
    deaths_total: int = 0
    stale_deaths_total: int = 0
    unsure_deaths_total: int = 0
    data_total: int = 0
    readings_total: int = 0
    duplicates_total: int = 0
    seq_gaps_total: int = 0
    lost_messages_total: int = 0
    overtaken_total: int = 0
    bdseq_gaps_total: int = 0
    rebirths_requested_total: int = 0
    commands_total: int = 0


class Faults:
    """The faults of one message: the first reason counts, the first few details are shown.

    Attributes:
        reason: Reason of the first fault; None: there is none.
    """

    def __init__(self) -> None:
        self.reason: RefusalReason | None = None
        self._details: dict[str, None] = {}
        self._more = 0

    def add(self, reason: RefusalReason, detail: str) -> None:
        """Add a fault; a detail that is there already counts once."""
        self.reason = self.reason or reason
        if len(self._details) < SHOWN_NAMES:
            self._details[detail] = None
        elif detail not in self._details:
            self._more += 1

    @property
    def refused(self) -> RefusedMessage | None:
        """The refusal of the message; None without a fault."""
        if self.reason is None:
            return None
        more = f"; and {self._more} more" if self._more else ""
        return RefusedMessage(self.reason, "; ".join(self._details) + more)
