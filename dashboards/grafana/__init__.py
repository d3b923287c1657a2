"""Transfer of boards and alerts to Grafana, through its API or as provisioning files.

In: `SiteDashboards`. Out: a Grafana that shows them. Promise: pushes are idempotent by uid, and a
board that another user changed is overwritten only on request.

Files, in order: `client` (the only importer of grafana-api), `provision` (files), `sync` (compare,
push, pull).
"""

__all__: list[str] = []
