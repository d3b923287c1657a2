"""How the supervisor looks at a process of ours: `/ready`, and its progress in `/metrics`."""

from __future__ import annotations

import http.client
import json
import time

from deploy.stack.supervisor import Look

__all__ = ["ProcessLook"]

_METRICS_EVERY_S = 5.0


class ProcessLook:
    """Looks at a bridge, worker or store through its status port."""

    def __init__(self, port: int, *, tells_progress: bool) -> None:
        """Prepare.

        Args:
            port: Its status port, on loopback.
            tells_progress: Read from its metrics what waits for it and how far it is.
        """
        self._port = port
        self._tells_progress = tells_progress
        self._counted_s = 0.0
        self._backlog: float | None = None
        self._progress: float | None = None

    def __call__(self) -> Look:
        """One look; never raises."""
        try:
            status, text = self._get("/ready")
            page = json.loads(text)
            if self._tells_progress and time.monotonic() - self._counted_s > _METRICS_EVERY_S:
                self._count(self._get("/metrics")[1])
            problems = "; ".join(map(str, page.get("problems", ())))
        except (OSError, http.client.HTTPException, ValueError, AttributeError):
            return Look(False)
        return Look(True, status == 200, problems, self._backlog, self._progress)

    def _get(self, path: str) -> tuple[int, str]:
        line = http.client.HTTPConnection("127.0.0.1", self._port, timeout=3.0)
        try:
            line.request("GET", path)
            answer = line.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        finally:
            line.close()

    def _count(self, metrics: str) -> None:
        self._counted_s = time.monotonic()
        self._backlog = _sum(metrics, "kpstream_partition_backlog")
        self._progress = _sum(metrics, "kpstream_partition_committed_offset")


def _sum(metrics: str, name: str) -> float | None:
    """The sum of a metric over all its labels; None when there is none.

    >>> _sum('lag{p="1"} 2.0 lag{p="2"} 3.0 lagging 9'.replace(" l", chr(10) + "l"), "lag")
    5.0
    """
    values = [
        float(line.rpartition(" ")[2])
        for line in metrics.splitlines()
        if line.startswith((f"{name}{{", f"{name} "))
    ]
    return sum(values) if values else None
