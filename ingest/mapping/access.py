"""Rights at a broker that mapped devices and their bridge need."""

from __future__ import annotations

from collections.abc import Sequence

from ingest.mapping.file import MappingFile
from ingest.mapping.patterns import parse_pattern, parse_template

__all__ = ["device_filters", "filters_of"]


def filters_of(files: Sequence[MappingFile]) -> list[str]:
    """Return the MQTT filters of mappings: what a bridge reads."""
    found = [parse_pattern(topic).filter for file in files for topic in file.table.topic]
    return list(dict.fromkeys(found))


def device_filters(files: Sequence[MappingFile], site: str, device: str) -> list[str]:
    """Return the MQTT filters for what one device publishes, by mappings that name it by its topic.

    A mapping that takes the name of site or device from the message gives no right: with it, a
    device could publish as any other one.

    Args:
        files: The mappings.
        site: Site of the device.
        device: Its name.
    """
    found: list[str] = []
    for file in files:
        table = file.table
        if not (isinstance(table.site, str) and isinstance(table.device, str)):
            continue
        for topic in table.topic:
            known: dict[str, str] = {}
            for source, name in ((table.site, site), (table.device, device)):
                places = parse_template(source).names
                if places and source == f"{{{places[0]}}}":
                    known[source] = name
                elif source != name:
                    break
            else:
                levels = [known.get(level, level) for level in topic.split("/")]
                if set(known) <= set(topic.split("/")):
                    found.append(parse_pattern("/".join(levels)).filter)
    return list(dict.fromkeys(found))
