"""Memory of the MQTT version that a broker has accepted, kept in the state folder.

Without it, every start would find out anew whether a broker that ignores MQTT 5 is slow or speaks
3.1.1 only. Losing the file costs those seconds and nothing else, so a damaged one is reported and
ignored.
"""

from __future__ import annotations

import logging
import zlib
from pathlib import Path
from typing import Literal, cast

import orjson

from ingest.statefile import replace_file

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
            replace_file(self._path, _encoded(brokers))
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
            return _decoded(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as exc:
            log.warning("%s is unusable and ignored: %s", self._path, exc)
            return {}


def _encoded(brokers: dict[str, str]) -> bytes:
    body = orjson.dumps(brokers)
    return orjson.dumps({"crc32": zlib.crc32(body), "brokers": brokers}) + b"\n"


def _decoded(data: bytes) -> dict[str, str]:
    """Return the content of the file.

    Raises:
        ValueError: It is damaged.
    """
    found = orjson.loads(data)
    if not isinstance(found, dict) or not isinstance(found.get("brokers"), dict):
        msg = "it has no list of brokers"
        raise ValueError(msg)
    brokers = found["brokers"]
    if found.get("crc32") != zlib.crc32(orjson.dumps(brokers)):
        msg = "its checksum does not match"
        raise ValueError(msg)
    if not all(version in _VERSIONS for version in brokers.values()):
        msg = "it names a version that is not of MQTT"
        raise ValueError(msg)
    return dict(brokers)
