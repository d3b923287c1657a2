"""Sparkplug B, the second payload format.

In: birth, data and death messages of edge nodes. Out: readings in the product's own JSON form, so
that everything behind the bridge knows one format. Promise: what a node has announced survives a
restart, and whatever cannot be understood becomes a dead letter with its reason.

`wire` is the only user of protobuf; `names` is the mapping file; `store` keeps the births;
`decoder` puts them together behind the seam of `ingest.decoder`.
"""

__all__: list[str] = []
