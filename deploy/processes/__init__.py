"""Processes: a gateway, and the runtime of the bridge, worker and store of a site.

In: settings. Out: a running process, composed from its parts in one place. Promise: if a part fails
permanently, the process ends with exit code 1 and the reason; everything confirmed is durable.

1. `gateway`: composes a gateway.
2. `runtime`: the parts that the processes of a site share; `deploy.commands` composes the rest.
3. `lifecycle`: runs a process from its start to its exit code.
4. `bridging`: ticks and the Sparkplug decoder, for both kinds of bridge.
5. `gatewayview`, `processview`, `totals`: the state of a process for its console and its accounts.
6. `partitionwatch`: ends a process whose partitions make no progress.
7. `logfilter`: limits repeated log messages.
8. `exampling`, `siteexamples`: labels that are examples become windows, on a gateway and on a site.
"""

__all__: list[str] = []
