"""How Sparkplug's names become ours: the mapping file, and names of sites and devices.

The mapping file is TOML (`KPSTREAM_INGEST_SPARKPLUG` names it):

```toml
host_id = "kpstream"              # optional: be a Sparkplug host, so that nodes buffer without us
groups = ["Plant 7"]              # optional: only these groups; default: all
births_are_readings = false       # optional: whether the values of a birth make a reading too

[[stream]]
name = "engine"                   # our stream
devices = ["Plant 7/*/press-*"]   # optional: <group>/<node> or <group>/<node>/<device>, * and ?
metrics = { T24 = "Engine/T24", T30 = "Engine/T30" }      # channel = metric name
```
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from ingest.errors import IngestError
from ingest.payloads import MAX_CHANNELS
from ingest.topics import is_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["MappingInvalid", "SparkplugMapping", "StreamMapping", "read_mapping", "site_and_device"]


class MappingInvalid(IngestError):
    """The mapping file cannot be used; the message names the file, the place and what to do."""


def _name(text: str) -> str:
    if not is_name(text):
        msg = f"{text[:80]!r} is not 1 to 64 of A-Z a-z 0-9 . _ -, the first a letter or digit"
        raise ValueError(msg)
    return text


def _level(text: str) -> str:
    if not text or set(text) & set("+#/\x00"):
        msg = f"{text[:80]!r} is no level of an MQTT topic: no + # / in it, and not empty"
        raise ValueError(msg)
    return text


_Name = Annotated[str, AfterValidator(_name)]
_Level = Annotated[str, AfterValidator(_level)]


class _Table(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class StreamMapping(_Table):
    """Which metrics form one stream, and on which devices."""

    name: _Name
    devices: list[str] = Field(default=["*"], min_length=1)
    metrics: dict[_Name, Annotated[str, Field(min_length=1)]] = Field(
        min_length=1, max_length=MAX_CHANNELS, description="channel -> metric name"
    )

    def fits(self, path: str) -> bool:
        """Whether the stream may exist on `<group>/<node>` or `<group>/<node>/<device>`."""
        return any(fnmatchcase(path, pattern) for pattern in self.devices)


class SparkplugMapping(_Table):
    """The whole mapping file."""

    host_id: _Level | None = None
    groups: list[_Level] | None = Field(default=None, min_length=1)
    births_are_readings: bool = False
    stream: list[StreamMapping] = Field(min_length=1)

    @model_validator(mode="after")
    def _groups_are_no_host(self) -> SparkplugMapping:
        if "STATE" in (self.groups or ()):
            msg = "STATE is no group: the specification keeps it for hosts"
            raise ValueError(msg)
        return self

    @property
    def digest(self) -> str:
        """Differs whenever the streams do: what was carried forward may then lack a metric."""
        streams = [each.model_dump_json() for each in self.stream]
        return hashlib.sha256("\n".join(streams).encode()).hexdigest()[:32]

    def filters(self) -> list[str]:
        """The MQTT filters of what this mapping takes; no commands, so none of our own.

        >>> SparkplugMapping(stream=[StreamMapping(name="s", metrics={"a": "A"})]).filters()[:2]
        ['spBv1.0/+/NBIRTH/+', 'spBv1.0/+/NDATA/+']
        """
        found = [
            f"spBv1.0/{group}/{kind}/{rest}"
            for group in self.groups or ["+"]
            for rest, kinds in (
                ("+", ("NBIRTH", "NDATA", "NDEATH")),
                ("+/+", ("DBIRTH", "DDATA", "DDEATH")),
            )
            for kind in kinds
        ]
        if self.host_id is not None:
            found.append(f"spBv1.0/STATE/{self.host_id}")
        return found


def read_mapping(path: Path) -> SparkplugMapping:
    """Read the mapping file.

    Raises:
        MappingInvalid: It is not there, no TOML, or not a mapping.
    """
    try:
        table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        return SparkplugMapping.model_validate(table)
    except OSError as exc:
        msg = (
            f"cannot read the Sparkplug mapping {path} ({exc.strerror}): KPSTREAM_INGEST_SPARKPLUG"
        )
        raise MappingInvalid(msg) from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        msg = f"the Sparkplug mapping {path} is no TOML: {exc}"
        raise MappingInvalid(msg) from exc
    except ValidationError as exc:
        fault = exc.errors(include_url=False)[0]
        place = ".".join(map(str, fault["loc"])) or "the file"
        msg = f"the Sparkplug mapping {path} cannot be used: {place}: {fault['msg']}"
        raise MappingInvalid(msg) from exc


@lru_cache(maxsize=65_536)
def site_and_device(group: str, node: str, device: str | None) -> tuple[str, str]:
    """Our names of a node, or of a device of it: the group is the site.

    Names that are names with us stay as they are; a device is `<node>.<device>`. Others get a
    readable part and a hash of the original, so that two of them never become one:

    >>> site_and_device("plant-7", "line-3", "press-2")
    ('plant-7', 'line-3.press-2')
    >>> site_and_device("Sparkplug B Devices", "Raspberry Pi", None)
    ('Sparkplug-B-Devices-a8b5b5e3', 'Raspberry-Pi-d8d3e93c')

    A dot in the name of a node or device counts as such a character, because ours joins them.
    """
    site = group if is_name(group) else _slug((group,))
    parts = (node,) if device is None else (node, device)
    ours = ".".join(parts)
    if is_name(ours) and ours.count(".") == len(parts) - 1 and all(parts):
        return site, ours
    return site, _slug(parts)


def _slug(parts: Sequence[str]) -> str:
    """At most 64 characters: what is readable of the parts, and a hash of all of them."""
    digest = hashlib.sha256("/".join(parts).encode("utf-8", "replace")).hexdigest()[:8]
    readable = re.sub(r"[^A-Za-z0-9_]+", "-", ".".join(parts)).strip("-_")[:54].rstrip("-_")
    return f"{readable}-{digest}" if readable else f"x-{digest}"
