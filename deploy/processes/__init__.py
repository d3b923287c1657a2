"""Processes: a gateway, and the bridge, worker and store of a site.

In: settings. Out: a running process that is composed from the parts in one place. Promise: a part
that fails for good ends its process with exit code 1 and the reason; nothing unconfirmed was
acknowledged.

`gateway` composes a gateway, `siteprocess` is what the processes of a site share, `lifecycle` runs
either from start to exit code; `gatewayview` and `processview` show them, `partitionwatch` ends one
that stands still.
"""

__all__: list[str] = []
