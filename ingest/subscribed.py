"""Memory of the subscriptions that the broker holds for our client ids.

A persistent session keeps every filter until it is unsubscribed, also filters of settings that have
changed since: a group that was removed, Sparkplug switched off, another prefix. MQTT has no request
that lists them, so the bridge remembers them in its state folder. It writes the file before it
subscribes and after the broker has confirmed the end of a subscription: the file may name a filter
that the broker does not hold, which is harmless, but never lacks one.
The file also notes for which sessions the broker has confirmed a subscription, because it should
still have those at the next start.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ingest.statefile import StateFileUnusable, read_object, write_object

__all__ = ["SubscribedFilters"]

log = logging.getLogger(__name__)

_MOST_FILTERS = 4096
_MOST_SESSIONS = 32


class SubscribedFilters:
    """The filters of one session, in a file that the sessions of one state folder share.

    Implements `ingest.mqtt.subscriptions.FilterMemory`. Without a readable file it starts empty,
    and the bridge still unsubscribes from the filters of `ingest.mqttsettings.stale_filters_of`.
    """

    def __init__(self, path: Path, host: str, port: int, client_id: str) -> None:
        """Prepare; nothing is read before `read`.

        Args:
            path: The file; its folder is created.
            host: Host of the broker.
            port: Port of the broker.
            client_id: Client id that names the session at this broker.
        """
        self._path = path
        self._session = f"{host}:{port}/{client_id}"
        self._written: tuple[tuple[str, ...], bool] | None = None
        self._failed = False

    def read(self) -> tuple[str, ...]:
        """Return the filters that the broker may hold for this session."""
        sessions, _ = self._content()
        for other in sorted(sessions.keys() - {self._session}):
            if sessions[other]:
                log.warning(
                    "the broker may still keep messages for the session %s until it expires: "
                    "nothing takes them while %s is configured",
                    other,
                    self._session,
                )
        return tuple(sessions.get(self._session, ()))

    def has_session(self) -> bool:
        """Return whether the broker once confirmed a subscription of this session."""
        return self._session in self._content()[1]

    def write(self, filters: Sequence[str], *, has_session: bool) -> None:
        """Remember `filters` durably; a failure is logged, because it endangers no reading.

        Args:
            filters: Filters that the broker may hold.
            has_session: Whether it has confirmed a subscription since the session began.
        """
        found = tuple(dict.fromkeys(filters))[:_MOST_FILTERS]
        if (found, has_session) == self._written:
            return
        sessions, confirmed = self._content()
        confirmed.discard(self._session)
        if has_session:
            confirmed.add(self._session)
        sessions.pop(self._session, None)
        sessions[self._session] = list(found)
        held = [(name, kept) for name, kept in sessions.items() if kept]
        sessions = dict(held[-_MOST_SESSIONS:])
        try:
            if sessions:
                write_object(
                    self._path,
                    {"sessions": sessions, "confirmed": sorted(confirmed & sessions.keys())},
                )
            else:
                self._path.unlink(missing_ok=True)  # a folder that is left empty can be removed
        except OSError as exc:
            if not self._failed:
                log.warning(
                    "%s cannot be written (%s): after the next change of settings, the broker may "
                    "deliver messages of the former ones, which become dead letters",
                    self._path,
                    exc,
                )
            self._failed = True
        else:
            self._written, self._failed = (found, has_session), False

    def _content(self) -> tuple[dict[str, list[str]], set[str]]:
        """Return the filters by session, and the confirmed sessions.

        Both are empty, with a warning, if the file is damaged.
        """
        try:
            found = read_object(self._path)
            return ({}, set()) if found is None else _checked(self._path, found)
        except StateFileUnusable as exc:
            log.warning("%s", exc)
            return {}, set()


def _checked(path: Path, found: dict[str, Any]) -> tuple[dict[str, list[str]], set[str]]:
    """Return the content of the file: filters by session, and the confirmed sessions.

    Raises:
        StateFileUnusable: It has another form.
    """
    sessions, confirmed = found.get("sessions"), found.get("confirmed")
    if found.keys() != {"sessions", "confirmed"} or not isinstance(sessions, dict):
        raise StateFileUnusable(path, "it has no list of sessions")
    if not all(map(_is_names, sessions.values())):
        raise StateFileUnusable(path, "a session is not a list of filters")
    if not _is_names(confirmed):
        raise StateFileUnusable(path, "its confirmed sessions are not a list of names")
    return sessions, set(confirmed or ())


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)
