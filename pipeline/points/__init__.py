"""Points: the table of measurements, and how scores and accounts become points and lines. Pure.

In: score records (plain data, from the log topic `scores`) and the view of a process. Out: points
with measurement, tags, fields and time, and their lines in InfluxDB's line protocol. Promise: the
identity of a point is deterministic, so writing it again overwrites it.

Files, in order: `measurements` (tags, fields, types and units), `points` (a point and its checks),
`scorecolumns` (scores as columns, and how the log holds them), `pointblocks` (many points as
columns), `lines` (line protocol), `scores` (single score records, made of their task's fields),
`scorepoints` (the points of records of the log), `accounts` (points about a process).
"""

__all__: list[str] = []
