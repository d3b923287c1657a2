"""What `kpstream doctor --json` says of a broker."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["broker_fault", "failed", "findings"]


def findings(output: str) -> list[dict[str, Any]]:
    """The findings of `kpstream doctor --json`."""
    start = output.find("[") if output.lstrip().startswith("[") else output.find("{")
    try:
        page = json.loads(output[max(0, start) :])
    except ValueError:
        return []
    return list(page.get("findings", [])) if isinstance(page, dict) else list(page)


def broker_fault(output: str) -> str | None:
    """What `kpstream doctor --json` finds wrong with the broker, or None."""
    for each in findings(output):
        if failed(each) and ("mqtt" in each["name"].lower() or "broker" in each["name"].lower()):
            return f"{each['text']} ({each['advice']})" if each["advice"] else str(each["text"])
    return None


def failed(finding: dict[str, Any]) -> bool:
    return finding.get("state") == "fail"
