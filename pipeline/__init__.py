"""From the log to the point: windows in event time, scores, stores, and the console page.

The common format:

1. A **record** of the topic `readings` holds messages as columns, and ticks, in order per device.
2. `windows` cuts the readings of a device into **windows** `[length, channels]` float32, half-open
   in event time; late, duplicate and future readings and gaps are counted outputs.
3. `scoring` turns closed windows into **score records**, one batch per student, across devices.
4. `points` gives score records their identity as **points**: measurement, tags, fields, time.
5. A **sink** of `stores` stores points durably before it returns: the results file or InfluxDB.
6. The **log** is a SQLite file (``sqlite://``) or Kafka (``kafka://``); the agents are the same.

A walk-through:

```python
from pipeline.windows.slab import StreamSlab
from pipeline.windows.spec import WindowSpec

slab = StreamSlab(WindowSpec(length=128, hop=64, gap_ms=100), channels=9)
row = slab.add()                                         # one for each device
step = slab.step([row], counts, ts_ms, values, recv_ms)  # [n], [n, 9] -> outcomes, windows
slab.advance([row], now_ms, since_ms)                    # silence: nothing older is expected
slab.snapshots([row])                                    # a few kB; `add` continues exactly here
```

Folders and files, in the order data flows:

- `log`: `LocalLogWriter` and `SqliteLog` in `locallog`, the transports that give the log to Faust.
- `app`: the Faust apps, one that scores and one per sink.
- `stage`: the inbox and the work loop of both stages, and the latencies they record.
- `scoring`: `stage` (micro-batches, checkpoints, acks), `batch`, `students`, `rollover`.
- `windows`: `devices`, `slab`, `slabstep`, `windower`, `spec`, `snapshots`.
- `points`: score records, points, lines, and the accounts of processes.
- `stores`: `stage` (batches, retries, dead letters), `sinks`, the results file, InfluxDB.
- `status`: reports of a process; `console`: the page, `/health`, `/ready` and `/metrics`.
- `settings`, `errors`.

Imports between them run one way, in floors: errors, settings, status < points, stage, windows <
log, scoring, stores < app, console. Pure, without clock, network or Faust: `windows`, `status`,
`scoring.batch`, and `points` except `points.accounts`.
"""

__all__: list[str] = []
