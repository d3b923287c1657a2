"""Stores: where points end up.

In: the topics `scores` and `accounts`. Out: points in the results file or in InfluxDB. Promise: a
position moves only after the store has confirmed; a store that is away holds up nobody else.

`sinks` is the contract and the retrying delivery; `stage` the Faust agent; `resultsfile` and
`influx` the two sinks. `influxclient` is the only user of influxdb-client; `influxlayout` says
which buckets and tasks a site has, `influxsetup` makes them.
"""

__all__: list[str] = []
