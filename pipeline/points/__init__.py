"""Points: what is stored, under which names. Pure.

In: score records and accounts. Out: points with measurement, tags, fields and time, and their line
protocol. Promise: a point's identity is deterministic, so writing it again overwrites it.

`measurements` is the table of names, types and units; `points` and `accounts` fill it; `lines`
writes line protocol.
"""

__all__: list[str] = []
