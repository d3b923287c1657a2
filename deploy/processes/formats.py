"""The message formats of a bridge beside our own JSON form: Sparkplug B and mappings.

They are built together, because no two of them may claim the same topic. Mappings are read again
while the process runs: after SIGHUP, and when a file has changed.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.processes.bridging import sparkplug_decoder
from ingest.bridge import Bridge
from ingest.decoder import Decoder
from ingest.decoders import Claim
from ingest.settings import IngestSettings
from ingest.sparkplug.names import SparkplugMapping, read_mapping
from ingest.topicfilters import TopicSet

if TYPE_CHECKING:
    from ingest.mapping.decoder import Mappings
    from ingest.sparkplug.decoder import Sparkplug

__all__ = ["OtherFormats", "reserved_claims"]

log = logging.getLogger(__name__)

_LOOK_S = 2.0
_STORE = "mappings.db"
_KEPT = "mappings-in-force"


class OtherFormats:
    """The decoders of one bridge.

    Attributes:
        sparkplug: The decoder of Sparkplug B, if the settings name its mapping.
        mappings: The decoder of mapped devices, if the settings name a folder.
    """

    def __init__(self, ingest: IngestSettings, state_dir: Path) -> None:
        """Read the files and open the memories.

        Raises:
            IngestError: A file or a memory is unusable, or two formats claim the same topic.
        """
        self.sparkplug: Sparkplug | None = sparkplug_decoder(ingest, state_dir)
        self.mappings: Mappings | None = None
        try:
            if ingest.mappings is not None:
                self.mappings = _mappings(ingest, ingest.mappings, state_dir)
        except BaseException:
            self.close()
            raise

    @property
    def decoders(self) -> Sequence[Decoder]:
        """All decoders."""
        found: tuple[Decoder | None, ...] = (self.sparkplug, self.mappings)
        return [each for each in found if each is not None]

    @property
    def parts(self) -> dict[str, Callable[[], Any]]:
        """Parts of the health report: name -> function that returns its state."""
        found: dict[str, Callable[[], Any]] = {}
        if self.sparkplug is not None:
            found["sparkplug"] = self.sparkplug.status
        if self.mappings is not None:
            found["mappings"] = self.mappings.status
        return found

    def close(self) -> None:
        """Close the memories."""
        for each in (self.sparkplug, self.mappings):
            if each is not None:
                each.close()

    async def watch(self, bridge: Bridge, look_s: float = _LOOK_S) -> None:
        """Read the mapping files again when they change, and after SIGHUP, until cancelled.

        Args:
            bridge: Subscribes to what the mappings in force need.
            look_s: Seconds between two looks at the folder.
        """
        asked = asyncio.Event()
        loop = asyncio.get_running_loop()
        # Without mappings too, because SIGHUP would otherwise end the process.
        with suppress(NotImplementedError, RuntimeError, ValueError):  # not in the main thread
            loop.add_signal_handler(signal.SIGHUP, asked.set)
        try:
            while True:
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(asked.wait(), look_s)
                is_asked = asked.is_set()
                asked.clear()
                self._look(bridge, is_asked=is_asked)
        finally:
            with suppress(NotImplementedError, RuntimeError, ValueError):
                loop.remove_signal_handler(signal.SIGHUP)

    def _look(self, bridge: Bridge, *, is_asked: bool) -> None:
        """Look at the folder once; a fault of ours must not end the bridge."""
        if self.mappings is None:
            return
        try:
            if self.mappings.look(now=is_asked):
                bridge.resubscribe()
        except Exception:
            log.exception("reading the mappings again failed; those in force stay")
            return
        if is_asked:
            log.warning("mappings were read again: %s", _summary(self.mappings))


def reserved_claims(
    ingest: IngestSettings, sparkplug: SparkplugMapping | None = None
) -> list[Claim]:
    """Return the topics that mappings leave to others: our own ones, and those of Sparkplug.

    Args:
        ingest: Settings of the bridge.
        sparkplug: Mapping of Sparkplug, if it is used.
    """
    ours = Claim("KPSTREAM_INGEST_MQTT_PREFIX", [TopicSet(f"{ingest.mqtt_prefix}/#")])
    found = [ours]
    if ingest.labels_prefix:
        labels = [TopicSet(f"{ingest.labels_prefix}/#")]
        found.append(Claim("KPSTREAM_INGEST_LABELS_PREFIX", labels))
    if sparkplug is not None:
        topics = [TopicSet(each) for each in sparkplug.filters()]
        found.append(Claim("KPSTREAM_INGEST_SPARKPLUG", topics))
    return found


def _mappings(ingest: IngestSettings, path: Path, state_dir: Path) -> Mappings:
    from ingest.mapping.decoder import Mappings  # memory, for those who have mapped devices only
    from ingest.mapping.folder import MappingFolder
    from ingest.mapping.store import JoinStore

    sparkplug = None if ingest.sparkplug is None else read_mapping(ingest.sparkplug)
    reserved = reserved_claims(ingest, sparkplug)
    is_shared = ingest.mqtt_shared_group is not None
    folder = MappingFolder(path, state_dir / _KEPT, reserved, is_shared=is_shared)
    filters = [topics.filter for claim in reserved for topics in claim.topics]
    return Mappings(folder, JoinStore(state_dir / _STORE), ingest, filters)


def _summary(mappings: Mappings) -> str:
    folder = mappings.folder
    names = ", ".join(folder.in_force) or "none"
    faults = f", {len(folder.faults)} with faults" if folder.faults else ""
    return f"{names} in force{faults}"
