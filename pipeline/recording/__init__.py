"""Recordings: the raw readings of the log, kept as Parquet files to train on, and its labels.

In: records of the log topics `readings` and `labels`. Out: a folder::

    recordings/
    ├── engine/2026-11-29/part-00000042.parquet    readings of the stream `engine` received that day
    ├── labels.jsonl                               labels, one JSON object a line
    └── .positions.json                            how far the log is recorded

1. A row is a reading as it was received, with a duplicate that the log has twice: `ts_ms` (event
   time) and `recv_ms` (int64), `site` and `device` (text), and one column of float64 per channel. A
   file has the rows of messages with the same channels, so files of one stream may differ in them.
   A channel named like one of the first four columns has a colon before its name.
2. The folder of a day is that of the receipt (UTC), not of the event time, so a device with a wrong
   clock cannot open folders at will, and the oldest day is the one that was recorded first.
3. **Files and positions change together** (`folder`): after a kill at any point, every record of
   the log is in exactly one file or in none, and is then read again. A file under its final name is
   always whole.
4. The folder is bounded (`max_bytes`): the oldest day is deleted, and the log of the process says
   so.

Files: `rows` (buffers of rows, pure), `parquetfile` (the only file that imports pyarrow), `folder`
(the promise above), `positions` (its file of positions, which the gateway reads, too), `recorder`
(from the log to the folder), `source` (the log of a gateway).
"""

__all__: list[str] = []
