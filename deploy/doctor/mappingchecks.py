"""Checks of the folder of mapping files: which would be in force, and what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from deploy.doctor.findings import Finding, Row
from deploy.processes.formats import reserved_claims
from ingest.errors import MappingInvalid
from ingest.mapping.file import MappingFile
from ingest.mapping.folder import read_folder
from ingest.settings import IngestSettings
from ingest.sparkplug.names import SparkplugMapping

__all__ = ["check_mappings"]

_SHOWN = 3


def check_mappings(
    path: Path, ingest: IngestSettings, sparkplug: SparkplugMapping | None
) -> tuple[list[Finding], list[str]]:
    """Check the files as a gateway that starts now would.

    Args:
        path: The folder.
        ingest: Settings of the bridge.
        sparkplug: Mapping of Sparkplug, if it is used.

    Returns:
        The findings, and the MQTT filters of the files that are valid.
    """
    is_shared = ingest.mqtt_shared_group is not None
    try:
        files, faults = read_folder(path, reserved_claims(ingest, sparkplug), is_shared=is_shared)
    except MappingInvalid as exc:
        return [Finding("mappings", "fail", str(exc))], []
    advice = "mend the file; `kpstream map try FILE` shows what messages become with it"
    findings = [Finding("mappings", "fail", fault, advice) for fault in faults]
    if files:
        rows = tuple(row for each in files for row in _rows(each))
        text = f"{len(files)} valid files in {path}"
        findings.append(Finding("mappings", "ok", text, rows=rows))
    elif not faults:
        advice = "copy one: kpstream map list"
        findings.append(Finding("mappings", "warn", f"no *.toml in {path}", advice))
    return findings, [each for file in files for each in _filters(file)]


def _rows(file: MappingFile) -> Iterator[Row]:
    table = file.table
    more = f" and {len(table.topic) - _SHOWN} more" if len(table.topic) > _SHOWN else ""
    way = "whole readings" if table.join is None else "channels that come apart"
    received = table.time is None or table.time.path is None
    time = ", with the time of receipt" if received else ""
    yield Row(file.name, ", ".join(table.topic[:_SHOWN]) + more, f"{way}{time}")


def _filters(file: MappingFile) -> list[str]:
    from ingest.mapping.patterns import parse_pattern

    return [parse_pattern(each).filter for each in file.table.topic]
