"""Health checks: their outcome, and the check of one of our own processes through `/ready`."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any

__all__ = ["HealthCheck", "check_process", "read_ready_page"]

_TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """Outcome of one health check of a program.

    Attributes:
        answers: The program answered at all.
        ready: It can do its work.
        detail: Reason why it is not ready; for a ready program, optional information.
        backlog: Records that wait for it; None if it has no backlog or does not report one.
        progress: A number that changes whenever the program makes progress.
    """

    answers: bool
    ready: bool = False
    detail: str = ""
    backlog: float | None = None
    progress: float | None = None


def check_process(port: int) -> HealthCheck:
    """Ask the process on a loopback port for `/ready`; never raises."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/ready")
        response = connection.getresponse()
        page = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError):
        return HealthCheck(answers=False)
    finally:
        connection.close()
    return read_ready_page(response.status, page)


def read_ready_page(status: int, page: Any) -> HealthCheck:
    """Translate the response to `/ready` into a health check.

    >>> read_ready_page(503, {"ready": False, "problems": ["no broker", "no log"], "backlog": 7})
    HealthCheck(answers=True, ready=False, detail='no broker; no log', backlog=7.0, progress=None)
    """
    if not isinstance(page, dict):
        return HealthCheck(answers=True, detail=f"/ready did not return an object: {page!r:.100}")
    return HealthCheck(
        answers=True,
        ready=status == http.client.OK,
        detail="; ".join(str(problem) for problem in page.get("problems") or ()),
        backlog=_number(page.get("backlog")),
        progress=_number(page.get("progress")),
    )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None
