"""From the log to the point: windows in event time, scores, stores, and the page that shows them.

The common format:

1. A **record** of the topic `readings` is a bundle of messages and ticks, in order per device.
2. `windows` cuts a device's readings into **windows** `[length, channels]` float32, half-open in
   event time; late, duplicate, future readings and gaps are counted outputs. `devices` keeps the
   state of all devices of a worker and applies each record once.
3. `scoring` turns closed windows into **score records**, one batch per student, across devices.
4. `points` gives score records their identity as **points**: measurement, tags, fields, time.
5. A **sink** stores points durably before it returns: `results` (a local SQLite file) and `influx`.
6. The log is `sqlite://` (`locallog`, `transport`) or `kafka://`; the agents are the same lines.

Pure, without clock, network or Faust: `windows`, `devices`, `scoring`, `points`, `status`.

A walk-through:

```python
from pipeline.windows.windower import DeviceWindower, WindowSpec

windower = DeviceWindower(WindowSpec(length=128, hop=64, gap_ms=100), channels=9)
step = windower.step(ts_ms, values, recv_ms)     # [n], [n, 9] -> windows and what became of each
windower.advance(now_ms, since_ms)               # silence: nothing older is expected
row = windower.snapshot()                        # a few kB; restore continues exactly here
```

Files, in the order data flows: `locallog` (with `logfile`, `logstate`, `logwriter`), `transport`,
`app` (the Faust apps), `agents` (micro-batches, checkpoints, acks), `devices`, `windows` (with
`windowspec`, `cutters`, `reorder`, `snapshots`), `scoring`, `rollover` (a new student takes over),
`measurements` (all measurements, tags, fields), `points`, `lines`, `storing`, `sinks`, `results`,
`queries`, `influx` (with `influxclient`), `influxlayout` (buckets, retention, down-sampling),
`influxsetup` (makes them), `accounts` (what a process says of itself), `status`, `metrics`,
`console`, `pages`, `web/`.
"""

__all__: list[str] = []
