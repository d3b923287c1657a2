"""What can go wrong between us and Grafana.

```
DashboardsError
├── GrafanaUnavailable   nobody answers, or not in time, or with 5xx: try again later
├── GrafanaDenied        the token is not accepted, or may not do this
├── GrafanaMissing       there is nothing of that name
├── GrafanaConflict      somebody else changed it, or owns it: a person must decide
└── GrafanaRefused       it answers, and does not take what we send
```
"""

from __future__ import annotations

__all__ = [
    "DashboardsError",
    "GrafanaConflict",
    "GrafanaDenied",
    "GrafanaMissing",
    "GrafanaRefused",
    "GrafanaUnavailable",
]


class DashboardsError(Exception):
    """Root of everything that dashboards raise on purpose; the message says what to do."""


class GrafanaUnavailable(DashboardsError):
    """Nobody answers at the URL, or not in time, or Grafana has trouble of its own."""


class GrafanaDenied(DashboardsError):
    """The token is not accepted, or its role may not do this."""


class GrafanaMissing(DashboardsError):
    """There is nothing of that name."""


class GrafanaConflict(DashboardsError):
    """It was changed by somebody else, or belongs to a provisioning file: decide, then repeat."""


class GrafanaRefused(DashboardsError):
    """Grafana answers, and does not take what we send."""
