"""From MQTT to the log: accept or refuse messages, and lose none.

The common format:

1. A **message** is JSON in one of three forms (`payloads`), on the MQTT topic
   `sensors/{site}/{device}/{stream}` (`topics`). It carries one or many readings of one stream.
2. Accepted messages of one partition become **blocks**, columns of one stream, in one record of the
   log topic `readings` (`blocks`). Every device belongs to one partition, with all its streams.
3. Refused messages become **dead letters** with raw bytes, reason, topic and receive time
   (`errors` lists the reasons, `deadletter` defines the form).
4. The **bridge** acknowledges a message only after the log has confirmed it (`bridge`).
5. Times are epoch milliseconds. A number becomes float32 in one place, `messages.columns`.

A walk-through:

```python
from ingest.bridge import Bridge
from ingest.settings import IngestSettings

bridge = Bridge(IngestSettings(mqtt_port=1883), writer)   # writer: a log that confirms
task = asyncio.create_task(bridge.run())                  # connects, subscribes, acknowledges
bridge.health()                                           # connected? how much is unconfirmed?
bridge.stop()
await task                                                # everything taken is in the log
```

In: MQTT messages. Out: records of the log. Promise: at least once, in order per device.

Files, in the order in which data flows: `mqtt` (the connection), `bridge` (delivery), `intake`
(checks and loads), `payloads`, `topics`, `openrecords` and `blocks` (columns), `messages` (what a
record holds, and its old form), `beat` and `ticks` (what is written when), `appending` (until the
log confirms), `deadletter`, `logwriter` (contract of a log), `kafka` (Apache Kafka as that log),
`kafkareader` (the same, from the newest record back). Other formats stand behind the seam
`decoder`: `sparkplug` (Sparkplug B) and `mapping` (messages of any device, described by files);
both read their files with `tomltables` and convert values with `conversion` and `units`;
`publishing` sends what they publish. `settings`, `environment` (the base of all settings),
`secrettext`, `mqttsettings`, `bridgehealth`, `errors`, `tls`, `backoff` and `childprocess` serve
all of them.

Outside this path: `recordings` and `replay` (recorded data sets over MQTT), `simulators` (the
demo's fleet).

`ingest` imports nothing else of kpstream. Inside, imports run one way: `pyproject.toml` has the
order under "ingest: bridge over payload formats".
"""

__all__: list[str] = []
