"""The log: durable, partitioned, confirmed; a SQLite file on a gateway, Kafka on a site.

In: records of the bridge and of the agents. Out: the same records, in order per partition, from the
last committed position on. Promise: `append` returns after the record is on the disk, and a
position is committed only behind work that is durable.

`locallog` is the SQLite log with its parts `file` (opening, locking, checking), `state`
(positions), `writer` (group commit, compaction, retention) and `repair`. `sqlitetransport` and
`kafkatransport` give it to Faust; `backpressure`, `handover` and `changelog` are what both need of
Faust.
"""

__all__: list[str] = []
