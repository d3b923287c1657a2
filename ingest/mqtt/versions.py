"""Which MQTT version the next attempt speaks."""

from __future__ import annotations

from typing import Literal, Protocol

__all__ = ["Version", "VersionChoice", "VersionMemory"]

Version = Literal["5", "3.1.1"]

_FIRST_TRIAL = 2
"""Ends in a row without a CONNACK before the other version is tried; a silence counts as two."""
_KNOWN_TRIAL = 8
"""The same at a broker that has accepted us before: it may have been replaced."""
_MOST_TRIAL = 64


class VersionMemory(Protocol):
    """Durable memory of the version that a broker has accepted."""

    def read(self) -> Version | None:
        """Return it; None: there is none."""

    def write(self, version: Version) -> None:
        """Remember it; a failure is logged, because it endangers nothing."""


class VersionChoice:
    """Chooses the version of every attempt from what the broker did. Pure.

    | the broker | next attempt |
    |---|---|
    | accepted us, or refused us for another reason than the version | the same version, for good |
    | refused the version in CONNACK | the other version, for good |
    | ended the connection without CONNACK, or stayed silent | the same version; after two ends, or one silence, one trial of the other version, then back; after every failed trial twice as many, eight of either where a version has worked |
    | answered a trial of 3.1.1 at once, where it had been silent to 5 | 3.1.1 for good: it ignores 5, as amqtt 0.12 does |
    | answered any other trial of 3.1.1 | 5 once more, after this connection: a login may be quicker the second time, and a proxy ends connections while its broker starts; 3.1.1 for good when the same happens again, or when the broker does not answer a probe with 5 meanwhile (RabbitMQ 3.10 just ends it) |

    A version that is fixed by the settings is never given up.

    Attributes:
        version: Version of the current or next attempt.
    """  # noqa: E501 (a table cell is one line)

    def __init__(self, protocol: Literal["auto", "5", "3.1.1"], known: Version | None) -> None:
        """Start with the known version, else with 5.

        Args:
            protocol: A fixed version, or "auto".
            known: Version that this broker has accepted before; None: none.
        """
        self.is_fixed = protocol != "auto"
        self._usual: Version = known or "5" if protocol == "auto" else protocol
        self.version = self._usual
        self._trial_after = _FIRST_TRIAL if known is None else _KNOWN_TRIAL
        self._is_known = known is not None
        self._unanswered = 0
        self._hung_up = False
        self._answered_in_trial = False
        self._refused: set[Version] = set()

    @property
    def is_trial(self) -> bool:
        """Whether this attempt only tries whether the broker answers to the other version."""
        return self.version != self._usual

    @property
    def both_refused(self) -> bool:
        """Whether the broker has refused both versions."""
        return len(self._refused) == 2

    def refused(self) -> None:
        """Note a CONNACK that refuses the version."""
        self._refused.add(self.version)
        if not self.is_fixed:
            self._settle(_other(self.version))

    def answered(self) -> None:
        """Note a CONNACK that refuses us for another reason: it understood the version."""
        if self.is_fixed:
            return
        if self._may_be_luck(is_quick=False):
            self.version = self._usual
        else:
            self._settle(self.version)

    def accepted(self, *, is_quick: bool) -> bool:
        """Note a CONNACK that accepts us; returns whether to remember the version.

        Args:
            is_quick: It came in a small part of the time that an attempt without one had.
        """
        self._refused.discard(self.version)
        if self.is_fixed or self._may_be_luck(is_quick=is_quick):
            return False
        self._settle(self.version)
        return True

    def unanswered(self, *, is_silence: bool) -> None:
        """Note an attempt that ended without CONNACK, or by our patience (`is_silence`)."""
        if self.is_fixed:
            return
        self._hung_up |= not is_silence
        if self.is_trial:
            self.version = self._usual
            self._unanswered = 0
            self._trial_after = min(2 * self._trial_after, _MOST_TRIAL)
            return
        self._unanswered += 2 if is_silence and not self._is_known else 1
        if self._unanswered >= self._trial_after:
            self.version = _other(self._usual)

    @property
    def is_in_doubt(self) -> bool:
        """Whether the accepted version may be luck, so that a probe with 5 would tell."""
        return self.is_trial and self._answered_in_trial

    def proved(self) -> None:
        """Note that the broker does not answer 5 while it accepts 3.1.1."""
        self._settle(self.version)

    def ended(self) -> None:
        """Note the end of an accepted connection."""
        self.version = self._usual

    def _may_be_luck(self, *, is_quick: bool) -> bool:
        """Whether an answer in a trial of 3.1.1 proves nothing yet; the second one does."""
        is_proof = is_quick and not self._hung_up
        if not self.is_trial or self.version == "5" or is_proof or self._answered_in_trial:
            return False
        self._answered_in_trial = True
        self._unanswered, self._trial_after = 0, 1
        return True

    def _settle(self, version: Version) -> None:
        self.version = self._usual = version
        self._unanswered, self._trial_after = 0, _KNOWN_TRIAL
        self._hung_up = self._answered_in_trial = False
        self._is_known = True


def _other(version: Version) -> Version:
    return "3.1.1" if version == "5" else "5"
