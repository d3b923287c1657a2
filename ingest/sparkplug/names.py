"""Translation of Sparkplug names to kpstream's: the mapping file, sites and devices.

The mapping file is TOML (`KPSTREAM_INGEST_SPARKPLUG` names it):

```toml
host_id = "kpstream"              # optional: act as a Sparkplug host, so that nodes can buffer
groups = ["Plant 7"]              # optional: only these groups; default: all
births_are_readings = false       # optional: whether the values of a birth are a reading too
complete_within_ms = 100          # optional: wait for further messages of a moment; 0: none

[[stream]]
name = "engine"                   # name of the stream
devices = ["Plant 7/*/press-*"]   # optional: <group>/<node> or <group>/<node>/<device>, * and ?

[stream.metrics]                  # channel = metric, or a table with units
T24 = "Engine/T24"
T30 = { metric = "Engine/T30", unit = "degF", to = "degR", scale = 0.1, offset = 0.0, sign = 1 }
```
"""

from __future__ import annotations

import hashlib
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from ingest.conversion import Conversion
from ingest.errors import MappingInvalid
from ingest.payloads import MAX_CHANNELS
from ingest.tomltables import Name, Table, fault_list, parse_toml, table_faults
from ingest.topics import is_name, readable_name

__all__ = [
    "MetricTable",
    "SparkplugMapping",
    "StreamMapping",
    "read_mapping",
    "site_and_device",
    "state_topic",
]


def _level(text: str) -> str:
    if not text or set(text) & set("+#/\x00"):
        msg = (
            f"{text[:80]!r} is not a level of an MQTT topic: it must not be empty nor contain + # /"
        )
        raise ValueError(msg)
    return text


_Level = Annotated[str, AfterValidator(_level)]


def _as_metric(value: Any) -> Any:
    return {"metric": value} if isinstance(value, str) else value


class MetricTable(Conversion):
    """The metric of a channel, and what its value becomes."""

    metric: str = Field(min_length=1)

    @model_serializer(mode="wrap")
    def _text_if_nothing_else(self, dump: SerializerFunctionWrapHandler) -> Any:
        """Dump a mere metric as the text that it was, so that the digest stays that of the text."""
        return self.metric if self.model_fields_set == {"metric"} else dump(self)


class StreamMapping(Table):
    """The metrics that form one stream, and the devices that may have it."""

    name: Name
    devices: list[str] = Field(default=["*"], min_length=1)
    metrics: dict[Name, Annotated[MetricTable, BeforeValidator(_as_metric)]] = Field(
        min_length=1, max_length=MAX_CHANNELS, description="channel -> metric"
    )

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The names of the metrics, in the order of the channels."""
        return tuple(each.metric for each in self.metrics.values())

    def fits(self, path: str) -> bool:
        """Whether the stream may exist on `<group>/<node>` or `<group>/<node>/<device>`."""
        return any(fnmatchcase(path, pattern) for pattern in self.devices)


class SparkplugMapping(Table):
    """The whole mapping file."""

    host_id: _Level | None = None
    groups: list[_Level] | None = Field(default=None, min_length=1)
    births_are_readings: bool = False
    complete_within_ms: int = Field(default=100, ge=0, le=10_000)
    stream: list[StreamMapping] = Field(min_length=1)

    @model_validator(mode="after")
    def _groups_are_no_host(self) -> SparkplugMapping:
        if "STATE" in (self.groups or ()):
            msg = "STATE cannot be a group: the specification reserves it for hosts"
            raise ValueError(msg)
        return self

    @property
    def digest(self) -> str:
        """Digest of the streams; when it changes, values in the store may lack a metric."""
        streams = [each.model_dump_json() for each in self.stream]
        return hashlib.sha256("\n".join(streams).encode()).hexdigest()[:32]

    def filters(self) -> list[str]:
        """Return the MQTT filters for this mapping.

        They take every topic below a group, so that a message on a topic of no known form becomes a
        dead letter. Commands come too, also our own; the decoder ignores them.

        >>> SparkplugMapping(stream=[StreamMapping(name="s", metrics={"a": "A"})]).filters()
        ['spBv1.0/#']
        """
        if self.groups is None:
            return ["spBv1.0/#"]
        found = [f"spBv1.0/{group}/#" for group in self.groups]
        if self.host_id is not None:
            found.append(state_topic(self.host_id))
        return found


def state_topic(host_id: str) -> str:
    """Return the topic on which a host announces whether it is online.

    >>> state_topic("kpstream")
    'spBv1.0/STATE/kpstream'
    """
    return f"spBv1.0/STATE/{host_id}"


def read_mapping(path: Path) -> SparkplugMapping:
    """Read the mapping file.

    Raises:
        MappingInvalid: The file is missing, is not TOML, or is not a mapping; with all its faults.
    """
    what = f"the Sparkplug mapping {path}"
    try:
        return SparkplugMapping.model_validate(parse_toml(path.read_text(encoding="utf-8")))
    except OSError as exc:
        msg = f"cannot read {what} ({exc.strerror}); check KPSTREAM_INGEST_SPARKPLUG"
        raise MappingInvalid(msg) from exc
    except ValidationError as exc:
        raise MappingInvalid(fault_list(what, table_faults(exc, _TABLES))) from exc
    except ValueError as exc:
        msg = f"{what} is not TOML: {exc}"
        raise MappingInvalid(msg) from exc


_TABLES: dict[str, type[BaseModel]] = {
    "": SparkplugMapping,
    "stream": StreamMapping,
    "metrics": MetricTable,
}


@lru_cache(maxsize=65_536)
def site_and_device(group: str, node: str, device: str | None) -> tuple[str, str]:
    """Return our names of a node or a device: site (the group) and device.

    Valid names stay as they are; a device becomes `<node>.<device>`. Other names become a readable
    part and a hash of the original, so that two names never collide:

    >>> site_and_device("plant-7", "line-3", "press-2")
    ('plant-7', 'line-3.press-2')
    >>> site_and_device("Sparkplug B Devices", "Raspberry Pi", None)
    ('Sparkplug-B-Devices-a8b5b5e3', 'Raspberry-Pi-d8d3e93c')

    A dot in the name of a node or device counts as invalid, because a dot joins the two.
    """
    site = group if is_name(group) else readable_name(group)
    parts = (node,) if device is None else (node, device)
    joined = ".".join(parts)
    if is_name(joined) and joined.count(".") == len(parts) - 1 and all(parts):
        return site, joined
    return site, readable_name(*parts)
