"""Stores: scores and accounts of the log, written as points to a sink.

In: the topics `scores` and `accounts`. Out: points in the results file or in InfluxDB. Promise: an
offset is committed only after the sink has confirmed, and an unavailable sink delays no other.

Files, in order: `sinks` (the contract of a sink), `stage` (the Faust agent and its retrying
delivery), `resultsfile` and `influx` (the two sinks), `influxclient` (the only user of
influxdb-client), `influxlayout` (buckets and InfluxDB tasks of a site), `influxsetup` (creates
them).
"""

__all__: list[str] = []
