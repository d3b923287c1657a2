"""Subscriptions of one connection: filters to request, and their state."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from ingest.mqtt.reasons import subscription_text

__all__ = ["FilterMemory", "OptionalFilter", "Reason", "Subscriptions"]

log = logging.getLogger(__name__)

_FIRST_FAILURE = 0x80


class Reason(NamedTuple):
    """A reason code of MQTT 5 with its text; the client maps those of 3.1.1 to it."""

    code: int
    text: str

    @property
    def is_failure(self) -> bool:
        """Whether the request was refused."""
        return self.code >= _FIRST_FAILURE


class OptionalFilter(str):
    """A filter that we can do without: where the broker refuses it, we go on with the others.

    `ingest.mqtt.promise.weaker_promises` then says what does not come.
    """

    __slots__ = ()


class FilterMemory(Protocol):
    """Durable memory of the filters that the broker may hold for a session."""

    def read(self) -> Sequence[str]:
        """Return them."""

    def has_session(self) -> bool:
        """Return whether the broker has confirmed a subscription of the session."""

    def write(self, filters: Sequence[str], *, has_session: bool) -> None:
        """Remember both; returns when they are durable."""


class Subscriptions:
    """Filters of one client id: to hold, to drop as stale, or to give up.

    The session at the broker keeps filters of former settings and delivers their messages. They are
    dropped at every connect until the broker confirms it; until then, the memory keeps them.

    Attributes:
        in_place: The broker has answered everything that readiness depends on.
        has_session: The broker has accepted our subscription, now or in an earlier process, so it
            should know our session. Cleared at a connect where it does not.
    """

    def __init__(
        self,
        filters: Sequence[str],
        stale_filters: Sequence[str],
        *,
        leaves: bool,
        memory: FilterMemory | None = None,
    ) -> None:
        """Prepare.

        Args:
            filters: MQTT filters to hold.
            stale_filters: Filters that an earlier process with this client id may have left behind
                although no memory names them.
            leaves: Give all of them up instead.
            memory: Filters that earlier processes have subscribed to; None: there is none.
        """
        self.in_place = False
        self._filters = tuple(filters)
        self._memory = memory
        former = () if memory is None else memory.read()
        self.has_session = memory is not None and memory.has_session()
        self._stale_filters = tuple(
            each for each in dict.fromkeys((*stale_filters, *former)) if each not in self._filters
        )
        self._former = tuple(each for each in former if each not in self._filters)
        self._leaves = leaves
        self._asked: tuple[str, ...] = ()
        self._dropped: tuple[str, ...] = ()  # held on this connection, and to be given up

    def replace(self, filters: Sequence[str]) -> None:
        """Hold other filters; `on_connect` then requests them, and `on_suback` drops the rest."""
        new = tuple(filters)
        dropped = [each for each in self._filters if each not in new]

        def without_new(*found: str) -> tuple[str, ...]:
            return tuple(each for each in dict.fromkeys(found) if each not in new)

        self._dropped = without_new(*self._dropped, *dropped)
        self._former = without_new(*self._former, *dropped)
        self._stale_filters = without_new(*self._stale_filters, *dropped)
        self._filters = new

    def on_connect(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the filters to subscribe to and those to unsubscribe from, after CONNACK."""
        if self._leaves:
            self._asked = (*self._filters, *self._stale_filters) if self._filters else ()
            return (), self._asked
        self._remember((*self._filters, *self._former))
        return self._filters, ()

    def on_suback(
        self, reasons: Sequence[Reason], *, session_present: bool
    ) -> tuple[str | None, tuple[str, ...]]:
        """Take the broker's answer to a subscription.

        Args:
            reasons: One per filter, in order.
            session_present: The broker kept our session, so stale filters may still be active.

        Returns:
            The error where the broker refused a filter that is not optional, and the filters to
            unsubscribe from now.
        """
        for mqtt_filter, reason in zip(self._filters, reasons, strict=False):
            if reason.is_failure and not isinstance(mqtt_filter, OptionalFilter):
                return subscription_text(mqtt_filter, *reason), ()
        self.in_place = self.has_session = True
        stale = self._stale_filters if session_present else self._dropped
        if not stale:
            self._former = ()
        self._remember((*self._filters, *self._former))
        self._asked = stale
        return None, stale

    def on_unsuback(self, reasons: Sequence[Reason] = ()) -> None:
        """Take the broker's answer to an unsubscription.

        Args:
            reasons: One per filter, in order; empty in MQTT 3.1.1, which confirms all of them.
        """
        refused = [
            each for each, reason in zip(self._asked, reasons, strict=False) if reason.is_failure
        ]
        if refused:
            log.warning("the broker keeps the former subscription %r: %s", refused[0], reasons)
        if self._leaves:
            self.in_place = True
            self._remember(refused)
        else:
            self._former, self._dropped = tuple(refused), ()
            self._remember((*self._filters, *refused))

    def on_disconnect(self) -> None:
        """Mark all filters as not in place."""
        self.in_place, self._dropped = False, ()

    def _remember(self, filters: Sequence[str]) -> None:
        if self._memory is not None:
            self._memory.write(filters, has_session=self.has_session)
