"""The log: durable, partitioned, ordered records; a SQLite file on a gateway, Kafka on a site.

In: records of the bridge and of the agents. Out: the same records, in order per partition, from the
committed offset on.

Promises of the local log (`locallog`):

- The future of an append resolves only after its records are **durable**. Offsets of a partition
  are contiguous and never reused, not even after every record was deleted and the process
  restarted. An offset is committed only behind work that is durable.
- With ``durability="full"`` (default), confirmed records survive a killed process and loss of power
  (fsync at every commit). With ``"normal"`` they survive a killed process, but loss of power may
  take the last seconds. Both leave a consistent file.
- **Retention never deletes what a registered group still has to read.** It deletes read records
  that are older than `retention_ms`, or while their topic exceeds `retention_bytes`; for topics
  that no group reads, these limits alone decide. Ages count only time for which the log was open:
  neither a clock that was set nor a gateway that was off makes a record old. At `max_bytes` (or
  below `min_free_bytes` of free disk) all read records go first; then appends are **refused with
  LogFull** until a consumer has caught up, so the bridge stops acknowledging and the MQTT broker
  queues. Writers that drain the log (the agents' own records, ``reserve=True``) may use
  `reserve_bytes` more, so that a full log can empty itself.
- `soft_groups` are the exception: above 80 % of `max_bytes`, the oldest records that only they
  still have to read are deleted, counted (`released`) and logged as an error. A store that is
  unavailable for long therefore stops no other group; when it returns, it continues at
  `earliest_offset`.
- A compacted topic holds the newest record of each key. A tombstone (value None) removes its key
  and is itself deleted after `tombstone_ms`.
- One process per file (`LogLocked`), with any number of threads, apps and the bridge in it.
- Every record carries a checksum, verified when it is read from the disk, and a reader never steps
  over a record that is missing. Schema, offsets and the write-ahead file are checked when the log
  is opened, and so are the pages; those of a large file are checked in the background. Damage
  raises `LogCorrupt`, a loss of confirmed records `LogLost`; the messages say what to do.
  `inspection` has the table of cases.

Files of the local log, from the outside in: `locallog` (`SqliteLog`, shared in a process),
`commands`, `writer` (group commit), `retention`, `reader` (records from the disk), `state`
(records, and the part kept in memory), `staging` (changes before they are durable), `inspection`
(opening), `contentcheck` (pages and counts), `tables`, `file` (connections, lock, errors), `stats`,
`repair`, `firstpage`, `recordcopy`, `salvage`.

Files that connect Faust: `sqlitetransport`, `sqliteconsumer`, `sqliteproducer` for ``sqlite://``;
`kafkatransport` for ``kafka://``; `handover` and `tablemanager` for both;
`statetable` and `changelog` keep window state. `docs/faust-internals.md` lists the private parts of
Faust that they rely on.
"""

__all__: list[str] = []
