"""Checks of a gateway that follows a centre: what must be there, and what the last look found."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from deploy.doctor.findings import Finding, unreadable
from deploy.settings.rolloutsettings import RolloutSettings
from ingest.clock import now_ms
from ingest.extras import install_command
from ingest.statefile import StateFileUnusable, read_object, read_regular

__all__ = ["check_rollout", "rejected_here", "rollout_notices"]

_NAME = "rollout"
_MOST_ROOT_BYTES = 512_000
_DAY_S = 86_400
_PAGE = "docs/rollout.md, On the gateway"


def check_rollout(settings: RolloutSettings, state_dir: Path) -> Iterator[Finding]:
    """Check the extra, the pinned root, the memory and the clock; nothing without a centre.

    Args:
        settings: The centre that is followed.
        state_dir: State folder of the gateway.
    """
    if settings.url is None:
        return
    problems = [
        *_extra(),
        *_root(settings.root_file),
        *_report_key(settings.report_key_file),
        *_memory(state_dir / "rollout.json"),
        *_clock(state_dir / "rollout-marks.json", now_ms() // 1000),
    ]
    yield from problems
    if not problems:
        yield Finding(_NAME, "ok", f"follows {settings.url}, root {settings.root_file}")


def rejected_here(settings: RolloutSettings | None, state_dir: Path) -> dict[str, str]:
    """Digests of students that failed on this gateway, with the reasons; see `check_rollout`."""
    from deploy.updates.memory import RolloutMemory

    if settings is None or settings.url is None:
        return {}
    return RolloutMemory(state_dir / "rollout.json").rejected()


def rollout_notices(part: Mapping[str, Any]) -> Iterator[Finding]:
    """Findings of what a running gateway says about its centre.

    Args:
        part: The part `rollout` of its health.
    """
    notices = part.get("notices")
    for text in notices if isinstance(notices, list) else ():
        yield Finding(_NAME, "warn", str(text), _PAGE)
    if part.get("centre") == "away":
        text = f"the centre is away: {part.get('detail')}"
        yield Finding(_NAME, "warn", text, "the running students stay; see KPSTREAM_ROLLOUT_URL")


def _extra() -> Iterator[Finding]:
    if importlib.util.find_spec("tuf") is None:
        text = "the package that verifies releases is not installed"
        yield Finding(_NAME, "fail", text, install_command("rollout"))


def _root(path: Path | None) -> Iterator[Finding]:
    advice = "copy root.json from the centre and set KPSTREAM_ROLLOUT_ROOT_FILE"
    if path is None:
        return
    try:
        found = orjson.loads(read_regular(path, _MOST_ROOT_BYTES))
        kind = found["signed"]["_type"]
    except PermissionError as exc:
        yield unreadable(exc, _NAME)
        return
    except OSError as exc:
        yield Finding(_NAME, "fail", f"the pinned root cannot be read: {exc}", advice)
        return
    except (ValueError, KeyError, TypeError, RecursionError):
        kind = ""
    if kind != "root":
        yield Finding(_NAME, "fail", f"{path} is not the root of a centre", advice)


def _report_key(path: Path | None) -> Iterator[Finding]:
    from deploy.rollout.report import read_report_key

    if path is None:
        return
    try:
        read_report_key(path)
    except PermissionError as exc:
        yield unreadable(exc, _NAME)
    except (OSError, ValueError) as exc:
        advice = "copy the key that `kpstream centre enrol` wrote for this gateway"
        yield Finding(_NAME, "warn", f"no report can be signed: {exc}", advice)


def _memory(path: Path) -> Iterator[Finding]:
    from deploy.updates.memory import read_students

    try:
        read_students(path)
    except StateFileUnusable as exc:
        if isinstance(exc.__cause__, PermissionError):
            yield unreadable(exc.__cause__, _NAME)
            return
        advice = "nothing is lost: the registry's history knows what took over; the gateway goes on"
        yield Finding(_NAME, "warn", str(exc), advice)


def _clock(marks: Path, now_s: int) -> Iterator[Finding]:
    try:
        found = read_object(marks) or {}
    except StateFileUnusable as exc:
        if isinstance(exc.__cause__, PermissionError):
            yield unreadable(exc.__cause__, _NAME)
            return
        advice = "the next fetch writes it anew; find out who changed it"
        yield Finding(_NAME, "warn", str(exc), advice)
        return
    made_s = found.get("made_s")
    if isinstance(made_s, int) and now_s < made_s - _DAY_S:
        days = (made_s - now_s) // _DAY_S
        text = f"this machine's clock is {days} days behind the newest index of the centre"
        yield Finding(_NAME, "fail", text, "set it, such as by NTP: nothing is fetched until then")
