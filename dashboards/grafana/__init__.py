"""Grafana itself: through its API, or as provisioning files.

In: a site. Out: a Grafana that shows it. Promise: idempotent by uid; what others made is left
alone.

`client` is the only user of grafana-api; `sync` compares and pushes, `provision` writes files.
"""

__all__: list[str] = []
