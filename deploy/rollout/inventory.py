"""What the centre knows of its gateways: the newest report of each, and the keys of their reports.

One folder, in which each gateway has files of its own, so that damage harms its record only:

- `GATEWAY.json`: its newest report, and when the centre received it by its own clock.
- `GATEWAY.key`: the key that signs its reports, if it is enrolled (mode 0600).
- `GATEWAY.retired`: it is retired; its reports are refused.

A report that was received before is not news: the broker keeps the newest one and delivers it again
at every connect.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from deploy.rollout.report import (
    GatewayReport,
    ReportRefused,
    StudentReport,
    decode_report,
    read_report_key,
)
from ingest.statefile import StateFileUnusable, read_object, replace_file, write_object

__all__ = ["MAX_GATEWAYS", "Inventory", "Known", "known_gateways"]

log = logging.getLogger(__name__)

MAX_GATEWAYS = 10_000
"""Gateways that the centre remembers; it refuses the reports of further ones."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TOPIC = re.compile(r"gateways/([A-Za-z0-9._-]{1,64})/report")
_CLOCK_SLACK_S = 300
_WRITE_S = 30
"""Seconds after which the record is written again although only numbers have changed."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the centre knows of one gateway.

    Attributes:
        gateway: Its name.
        report: Its newest report; None: it is enrolled and has not reported.
        seen_s: When the centre received it, by the centre's clock, epoch seconds.
        refused: Why the centre refused its latest report; "" if it took it.
    """

    gateway: str
    report: GatewayReport | None = None
    seen_s: int = 0
    refused: str = ""

    @property
    def group(self) -> str:
        """Its group; "" for none."""
        return "" if self.report is None else self.report.group

    def student(self, name: str) -> StudentReport | None:
        """What it reported of a student; None for nothing."""
        students = () if self.report is None else self.report.students
        return next((student for student in students if student.name == name), None)


class Inventory:
    """The gateways of a centre, in a folder.

    Args:
        folder: The folder; created when something is written.
        now_s: Clock of the centre, epoch seconds.
        only_signed: Refuse reports of gateways that are not enrolled.
    """

    def __init__(
        self, folder: Path, now_s: Callable[[], int], *, only_signed: bool = False
    ) -> None:
        self.folder = folder
        self._now_s = now_s
        self._only_signed = only_signed
        self._records: dict[str, _Record] = {}
        self._refused: dict[str, str] = {}
        for path in sorted(folder.glob("*.json")):
            try:
                record = _read_record(path)
            except StateFileUnusable as exc:
                log.warning("%s; the gateway's next report replaces it", exc)
                continue
            if record is not None and len(self._records) < MAX_GATEWAYS:
                self._records[record.report.gateway] = record

    def known(self) -> list[Known]:
        """What is known of every gateway that is not retired, sorted by name."""
        names = self._records.keys() | self._enrolled()
        return [
            self._known(name) for name in sorted(names) if not self._path(name, "retired").exists()
        ]

    def take(self, topic: str, payload: bytes) -> GatewayReport | None:
        """Take a message of a gateway; return its report, or None if it is no news.

        Args:
            topic: The topic that it came on.
            payload: Its payload; empty when somebody deleted the retained report.

        Raises:
            ReportRefused: The report is not accepted; the message says why.
        """
        match = _TOPIC.fullmatch(topic)
        if match is None:
            msg = f"{topic!r} is no topic of a report"
            raise ReportRefused(msg)
        if not payload:
            return None
        gateway = match[1]
        try:
            report = self._checked(gateway, topic, payload)
        except ReportRefused as exc:
            self._note_refusal(gateway, str(exc))
            raise
        self._refused.pop(gateway, None)
        before = self._records.get(gateway)
        if before is not None and before.report == report:
            return None
        self._store(gateway, report, before)
        return report

    def enrol(self, gateway: str, *, replace: bool = False) -> str:
        """Enrol a gateway, and return the text of its key; the same one again unless `replace`.

        Raises:
            ValueError: The name is invalid.
            OSError: The key cannot be written or read.
        """
        path = self._path(gateway, "key")
        self._path(gateway, "retired").unlink(missing_ok=True)
        if path.exists() and not replace:
            return read_report_key(path).hex()
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        key = secrets.token_hex(32)
        replace_file(path, f"{key}\n".encode())
        return key

    def retire(self, gateway: str) -> bool:
        """Retire a gateway; return whether it was known. `enrol` or `restore` brings it back.

        Raises:
            ValueError: The name is invalid.
            OSError: The folder cannot be written.
        """
        replace_file(self._path(gateway, "retired"), b"")
        known = False
        for end in ("json", "key"):
            path = self._path(gateway, end)
            known |= path.exists()
            path.unlink(missing_ok=True)
        return self._records.pop(gateway, None) is not None or known

    def restore(self, gateway: str) -> bool:
        """Accept the reports of a retired gateway again; return whether it was retired."""
        path = self._path(gateway, "retired")
        was_retired = path.exists()
        path.unlink(missing_ok=True)
        return was_retired

    # -- parts ------------------------------------------------------------------------------

    def _checked(self, gateway: str, topic: str, payload: bytes) -> GatewayReport:
        if self._path(gateway, "retired").exists():
            self._records.pop(gateway, None)
            msg = f"the gateway {gateway} is retired; `kpstream centre restore {gateway}` undoes it"
            raise ReportRefused(msg)
        try:
            key = read_report_key(self._path(gateway, "key"))
        except FileNotFoundError:
            key = None
        except (OSError, ValueError) as exc:
            raise ReportRefused(str(exc)) from exc
        if key is None and self._only_signed:
            msg = f"the gateway {gateway} is not enrolled: run `kpstream centre enrol {gateway}`"
            raise ReportRefused(msg)
        before = self._records.get(gateway)
        if before is None and key is None and len(self._records) >= MAX_GATEWAYS:
            msg = f"there are {MAX_GATEWAYS:,} gateways already: retire some of them"
            raise ReportRefused(msg)
        report = decode_report(topic, payload, key)
        if before is not None and self._is_old(report, before):
            msg = (
                f"the report was sent at {report.sent_s}, before the newest one "
                f"({before.report.sent_s}): an old report again, or the gateway's clock went back"
            )
            raise ReportRefused(msg)
        return report

    def _is_old(self, report: GatewayReport, before: _Record) -> bool:
        # A gateway whose clock was in the future may come back to the present.
        newest_s = before.report.sent_s
        return report.sent_s < newest_s <= self._now_s() + _CLOCK_SLACK_S

    def _store(self, gateway: str, report: GatewayReport, before: _Record | None) -> None:
        now_s = self._now_s()
        has_news = before is None or _facts(report) != _facts(before.report)
        is_due = has_news or before is None or not 0 <= now_s - before.written_s < _WRITE_S
        written_s = now_s if before is None or is_due else before.written_s
        self._records[gateway] = _Record(report, now_s, written_s)
        if not is_due:
            return
        content = {"format": 1, "seen_s": now_s, "report": report.model_dump()}
        try:
            # Thousands of gateways report each minute, most of them nothing but numbers.
            write_object(self._path(gateway, "json"), content, is_synced=has_news)
        except OSError as exc:
            log.error("the report of %s is kept in memory only: %s", gateway, exc)

    def _note_refusal(self, gateway: str, text: str) -> None:
        if self._refused.get(gateway) == text:
            return
        # Whoever may write to any topic must fill neither the memory nor the log.
        if gateway in self._refused or len(self._refused) < MAX_GATEWAYS:
            log.warning("report of %s refused: %s", gateway, text)
            self._refused[gateway] = text

    def _known(self, gateway: str) -> Known:
        refused = self._refused.get(gateway, "")
        record = self._records.get(gateway)
        if record is None:
            return Known(gateway, refused=refused)
        return Known(gateway, record.report, record.seen_s, refused)

    def _enrolled(self) -> set[str]:
        names = (path.name[: -len(".key")] for path in self.folder.glob("*.key"))
        return {name for name in names if _NAME.fullmatch(name)}

    def _path(self, gateway: str, end: str) -> Path:
        if not _NAME.fullmatch(gateway):
            msg = f"{gateway!r} is no name of a gateway: 1 to 64 of A-Z a-z 0-9 . _ -"
            raise ValueError(msg)
        return self.folder / f"{gateway}.{end}"


def known_gateways(folder: Path) -> list[tuple[str, str]]:
    """Name and group of every gateway in an inventory that is not retired, sorted by name.

    Args:
        folder: Folder of the inventory.
    """
    return [(each.gateway, each.group) for each in Inventory(folder, lambda: 0).known()]


@dataclass(frozen=True, slots=True)
class _Record:
    report: GatewayReport
    seen_s: int
    written_s: int


def _read_record(path: Path) -> _Record | None:
    """Read a record; None if it has gone.

    Raises:
        StateFileUnusable: The record is damaged, or is another gateway's.
    """
    found = read_object(path)
    if found is None:
        return None
    try:
        seen_s = found["seen_s"]
        report = GatewayReport.model_validate(found["report"])
        if found.keys() != {"format", "seen_s", "report"} or type(seen_s) is not int:
            msg = "it is no record of a gateway"
            raise ValueError(msg)
        if path.name != f"{report.gateway}.json":
            msg = f"it holds the report of {report.gateway}"
            raise ValueError(msg)
    except (KeyError, TypeError, ValueError) as exc:
        reason = "it is no report" if isinstance(exc, ValidationError | KeyError) else exc
        raise StateFileUnusable(path, reason) from exc
    return _Record(report, seen_s, seen_s)


def _facts(report: GatewayReport) -> Any:
    """What a record is written for at once: everything except the numbers that change always."""
    students = [student.model_dump(exclude={"evidence"}) for student in report.students]
    return report.model_dump(exclude={"sent_s", "disk_free_mb", "students"}), students
