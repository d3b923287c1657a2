"""Rights at the broker for the devices of mapping files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Rights", "mapped_rights"]


@dataclass(frozen=True, slots=True)
class Rights:
    """What mapped devices and their bridge may do.

    Attributes:
        filters: MQTT filters that the bridge reads.
        devices: MQTT filters to which each device publishes, by the common name of its certificate.
    """

    filters: Sequence[str] = ()
    devices: Mapping[str, Sequence[str]] = field(default_factory=dict)


def mapped_rights(mappings: Path | None, certs: Path | None) -> Rights:
    """Return the rights for the valid files of a folder and the devices with a certificate.

    Args:
        mappings: Folder of mapping files; None: there is none.
        certs: Folder of `kpstream certs make`; None: nobody has rights of his own.

    Raises:
        MappingInvalid: The folder of mappings cannot be read.
    """
    if mappings is None:
        return Rights()
    from ingest.mapping.access import device_filters, filters_of
    from ingest.mapping.folder import read_folder

    files, _ = read_folder(mappings)
    devices: dict[str, list[str]] = {}
    for path in sorted((certs / "devices").glob("*/*.pem")) if certs is not None else ():
        site, device = path.parent.name, path.stem
        if found := device_filters(files, site, device):
            devices[f"{site}/{device}"] = found
    return Rights(filters_of(files), devices)
