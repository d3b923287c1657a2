"""Sparkplug B, the second message format.

In: birth, data and death messages of edge nodes. Out: readings in the product's own JSON form, so
that everything behind the bridge handles one format. Promise: a node's announcements survive a
restart, and a message that cannot be understood becomes a dead letter with its reason.

Files, lowest first:

- `compression`: payloads inside others, within bounds.
- `wire`: the protobuf message; the only file that imports protobuf.
- `names`: the mapping file, and our names of groups, nodes and devices.
- `store`: the memory on disk.
- `counters`: counters of the decoder, and the faults of one message.
- `sessions`: which message begins, continues or ends a session.
- `nodes`: the memory: nodes, devices, values, and what has changed.
- `notices`: why a birth matches no stream.
- `births`: metrics and streams of a device.
- `data`: readings from the metrics of a message.
- `moments`: readings that wait for the rest of their moment.
- `host`: presence of the host, and requests for births.
- `decoder`: combines them behind the seam of `ingest.decoder`.
"""

__all__: list[str] = []
