"""Subscriptions of one connection: filters to request, and their state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Reason", "Subscriptions"]

_FIRST_FAILURE = 0x80


class Reason(NamedTuple):
    """A reason code of MQTT 5 with its text; the client maps those of 3.1.1 to it."""

    code: int
    text: str

    @property
    def is_failure(self) -> bool:
        """Whether the request was refused."""
        return self.code >= _FIRST_FAILURE


class Subscriptions:
    """Filters of one client id: to hold, to drop as stale, or to give up.

    Attributes:
        in_place: The broker has answered everything that readiness depends on.
    """

    def __init__(
        self, filters: Sequence[str], stale_filters: Sequence[str], *, leaves: bool
    ) -> None:
        """Prepare.

        Args:
            filters: MQTT filters to hold.
            stale_filters: Filters that an earlier process with this client id may have left behind.
            leaves: Give all of them up instead.
        """
        self.in_place = False
        self._filters = tuple(filters)
        self._stale_filters = tuple(stale_filters)
        self._leaves = leaves

    def on_connect(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the filters to subscribe to and those to unsubscribe from, after CONNACK."""
        if self._leaves:
            return (), (*self._filters, *self._stale_filters) if self._filters else ()
        return self._filters, ()

    def on_suback(
        self, reasons: Sequence[Reason], *, session_present: bool
    ) -> tuple[str | None, tuple[str, ...]]:
        """Take the broker's answer to a subscription.

        Args:
            reasons: One per filter, in order.
            session_present: The broker kept our session, so stale filters may still be active.

        Returns:
            The error where the broker refused a filter, and the filters to unsubscribe from now.
        """
        for mqtt_filter, reason in zip(self._filters, reasons, strict=False):
            if reason.is_failure:
                return f"the broker refuses the subscription {mqtt_filter!r}: {reason.text}", ()
        self.in_place = True
        return None, self._stale_filters if session_present else ()

    def on_unsuback(self) -> None:
        """Take the broker's answer to an unsubscription."""
        if self._leaves:
            self.in_place = True

    def on_disconnect(self) -> None:
        """Mark all filters as not in place."""
        self.in_place = False
