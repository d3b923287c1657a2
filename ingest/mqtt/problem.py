"""The problem of a connection that is on display: what replaces it, and what clears it."""

from __future__ import annotations

import logging
from enum import Enum, IntEnum

__all__ = ["Kind", "Problem", "Until"]

log = logging.getLogger(__name__)


class Until(IntEnum):
    """The step whose success clears a problem."""

    ACCEPTED = 0
    """CONNACK accepts us."""
    READY = 1
    """The broker has accepted all subscriptions."""
    SOUND = 2
    """A connection has lasted (`ingest.mqtt.policy.Timing.sound_s`)."""


class Kind(Enum):
    """What is known about a problem."""

    FACT = "fact"
    """Something that we saw ourselves: no route, silence, a TLS error."""
    GIVEN = "given"
    """A reason that the broker gave."""
    BARE = "bare"
    """The connection ended, and no reason was given."""


class Problem:
    """The text on display, and the log lines about it. Pure but for the log.

    - A fact or a given reason replaces what is on display. An end without a reason replaces neither
      a given reason nor a lasting problem: it knows less.
    - A lasting problem (`Until.SOUND`) comes back when a newer one is cleared.
    - A text is logged when it differs from the last one that was logged. When everything is
      cleared, one line says so.
    """

    def __init__(self, where: str) -> None:
        """Start without a problem.

        Args:
            where: `host:port` of the broker, for the log.
        """
        self._where = where
        self._text: str | None = None
        self._until = Until.ACCEPTED
        self._kind = Kind.BARE
        self._lasting: str | None = None
        self._logged: str | None = None

    @property
    def text(self) -> str | None:
        """The problem, human-readable; None: there is none."""
        return self._text or self._lasting

    @property
    def is_lasting(self) -> bool:
        """Whether a problem is shown until a connection has lasted."""
        return self._lasting is not None

    @property
    def is_given(self) -> bool:
        """Whether the broker gave the reason on display."""
        return self._text is not None and self._kind is Kind.GIVEN

    def show(self, text: str, until: Until, kind: Kind, level: int = logging.WARNING) -> None:
        """Put a problem on display, unless more is known already."""
        if kind is Kind.BARE and (self.is_given or (self.is_lasting and until >= Until.READY)):
            return
        if until is Until.SOUND or (self.is_lasting and kind is Kind.GIVEN):
            self._lasting = text
        self._text, self._until, self._kind = text, min(until, Until.READY), kind
        if text != self._logged:
            log.log(level, "%s: %s", self._where, text)
            self._logged = text

    def keep(self) -> None:
        """Keep what is on display until a connection has lasted."""
        self._lasting = self.text

    def clear(self, reached: Until) -> None:
        """Clear the problem whose step has succeeded now."""
        was = self.text
        if self._until <= reached:
            self._text, self._until = None, Until.ACCEPTED
        if reached is Until.SOUND:
            self._lasting = None
        if was is not None and self.text is None and self._logged is not None:
            log.warning("%s: the connection is in order again", self._where)
            self._logged = None
