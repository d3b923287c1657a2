"""What is known about one attempt to connect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Attempt"]


@dataclass(slots=True)
class Attempt:
    """Facts about one attempt, from the name lookup to the closed socket."""

    began_s: float
    opened_s: float = 0.0
    waiting_s: float = 0.0  # since when the broker owes an answer
    accepted: bool = False
    is_kept: bool = False  # the broker had kept our session
    is_ready: bool = False
    is_judged: bool = False  # the end has its text: later ends of this attempt say nothing
    is_silent: bool = False
    is_hang_up: bool = False  # closed instead of CONNACK
    is_quiet: bool = False  # cut without a reason, and with nothing asked
    filters: Sequence[str] = ()  # of a SUBSCRIBE without SUBACK
    topic: str | None = None  # of a publication, while no PUBACK at all has come
    has_puback: bool = False
    publication_refused: bool = False
