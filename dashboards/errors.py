"""Errors of the dashboards.

```
DashboardsError
├── GrafanaUnavailable   Grafana does not answer, answers too late, or answers 5xx: try again later
├── GrafanaDenied        Grafana refuses the token, or its role lacks a permission
├── GrafanaMissing       Grafana has nothing with this uid
├── GrafanaConflict      another user changed it, or a provisioning file owns it
└── GrafanaRefused       Grafana refuses the request
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
    """Root of the errors that dashboards raise; the message says what to do."""


class GrafanaUnavailable(DashboardsError):
    """Grafana cannot be reached, answers too late, or reports a problem of its own."""


class GrafanaDenied(DashboardsError):
    """Grafana refuses the token, or the token's role lacks a permission."""


class GrafanaMissing(DashboardsError):
    """Grafana has nothing with this uid."""


class GrafanaConflict(DashboardsError):
    """Another user changed it, or a provisioning file owns it; an operator must decide."""


class GrafanaRefused(DashboardsError):
    """Grafana refuses the request as invalid."""
