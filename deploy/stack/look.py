"""How the supervisor looks at a process of ours: through `/ready` on its status port."""

from __future__ import annotations

import http.client
import json
from typing import Any

from deploy.stack.parts import Look

__all__ = ["look_at", "look_of"]

_TIMEOUT_S = 3.0


def look_at(port: int) -> Look:
    """Ask the process on that loopback port; never raises."""
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    try:
        line.request("GET", "/ready")
        answer = line.getresponse()
        page = json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError):
        return Look(answers=False)
    finally:
        line.close()
    return look_of(answer.status, page)


def look_of(status: int, page: Any) -> Look:
    """What a page `/ready` says.

    >>> look_of(503, {"ready": False, "problems": ["no broker", "no log"], "backlog": 7})
    Look(answers=True, ready=False, words='no broker; no log', backlog=7.0, progress=None)
    """
    if not isinstance(page, dict):
        return Look(answers=True, words=f"its answer to /ready is no object: {page!r:.100}")
    return Look(
        answers=True,
        ready=status == http.client.OK,
        words="; ".join(str(problem) for problem in page.get("problems") or ()),
        backlog=_number(page.get("backlog")),
        progress=_number(page.get("progress")),
    )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None
