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
import zlib
from collections.abc import Sequence
from pathlib import Path

import orjson

from ingest.statefile import replace_file

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
                replace_file(self._path, _encoded(sessions, confirmed))
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
            return _decoded(self._path.read_bytes())
        except FileNotFoundError:
            return {}, set()
        except (OSError, ValueError) as exc:
            log.warning("%s is unusable and ignored: %s", self._path, exc)
            return {}, set()


def _encoded(sessions: dict[str, list[str]], confirmed: set[str]) -> bytes:
    content = {
        "crc32": zlib.crc32(orjson.dumps(sessions)),
        "sessions": sessions,
        "confirmed": sorted(confirmed & sessions.keys()),
    }
    return orjson.dumps(content) + b"\n"


def _decoded(data: bytes) -> tuple[dict[str, list[str]], set[str]]:
    """Return the content of the file: filters by session, and the confirmed sessions.

    Earlier versions noted no confirmed sessions; all of theirs count as confirmed.

    Raises:
        ValueError: It is damaged.
    """
    found = orjson.loads(data)
    if not isinstance(found, dict) or not isinstance(found.get("sessions"), dict):
        msg = "it has no list of sessions"
        raise ValueError(msg)
    sessions = found["sessions"]
    if found.get("crc32") != zlib.crc32(orjson.dumps(sessions)):
        msg = "its checksum does not match"
        raise ValueError(msg)
    for filters in sessions.values():
        if not isinstance(filters, list) or not all(isinstance(each, str) for each in filters):
            msg = "a session is not a list of filters"
            raise ValueError(msg)
    confirmed = found.get("confirmed", list(sessions))
    if not isinstance(confirmed, list) or not all(isinstance(each, str) for each in confirmed):
        msg = "its confirmed sessions are not a list of names"
        raise ValueError(msg)
    return dict(sessions), set(confirmed)
