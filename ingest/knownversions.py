"""Memory of the MQTT version that a broker has accepted, kept in the state folder.

Without it, every start would find out anew whether a broker that ignores MQTT 5 is slow or speaks
3.1.1 only. Losing the file costs those seconds and nothing else, so a damaged one is reported and
ignored.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal, cast

from ingest.statefile import StateFileUnusable, read_object, write_object

__all__ = ["KnownVersions"]

log = logging.getLogger(__name__)

_MOST_BROKERS = 32
_VERSIONS = ("5", "3.1.1")


class KnownVersions:
    """The version that one broker has accepted, in a file for all brokers of a state folder.

    Implements `ingest.mqtt.versions.VersionMemory`.
    """

    def __init__(self, path: Path, host: str, port: int) -> None:
        """Prepare; nothing is read before `read`.

        Args:
            path: The file; its folder is created.
            host: Host of the broker.
            port: Port of the broker.
        """
        self._path = path
        self._broker = f"{host}:{port}"
        self._written: str | None = None

    def read(self) -> Literal["5", "3.1.1"] | None:
        """Return the version that this broker has accepted; None: it is not known."""
        self._written = self._brokers().get(self._broker)
        return cast("Literal['5', '3.1.1'] | None", self._written)

    def write(self, version: Literal["5", "3.1.1"]) -> None:
        """Remember `version` durably; a failure is logged, because it costs only time."""
        if version == self._written:
            return
        brokers = self._brokers()
        brokers.pop(self._broker, None)
        brokers[self._broker] = version
        brokers = dict(list(brokers.items())[-_MOST_BROKERS:])
        try:
            write_object(self._path, {"brokers": brokers})
        except OSError as exc:
            log.warning(
                "%s cannot be written (%s): the next start finds the MQTT version of the broker "
                "anew, which can take some seconds",
                self._path,
                exc,
            )
        self._written = version  # also after a failure: one warning is enough

    def _brokers(self) -> dict[str, str]:
        """Return the version by broker; empty, with a warning, if the file is damaged."""
        try:
            found = read_object(self._path)
            if found is None:
                return {}
            brokers = found.get("brokers")
            if found.keys() != {"brokers"} or not isinstance(brokers, dict):
                raise StateFileUnusable(self._path, "it has no list of brokers")
            if not all(version in _VERSIONS for version in brokers.values()):
                raise StateFileUnusable(self._path, "it names a version that is not of MQTT")
        except StateFileUnusable as exc:
            log.warning("%s", exc)
            return {}
        return brokers
