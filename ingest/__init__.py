"""From the wire to the log: what a sensor may say, and how none of it is lost.

The common format:

1. A **message** is JSON in one of three forms (`payloads`), on the MQTT topic
   `sensors/{site}/{device}/{stream}` (`topics`). It carries one or many readings of one stream.
2. Accepted messages of one partition are packed into a **bundle**, one record of the log topic
   `readings`; every device lives in one partition, all its streams together (`messages`).
3. Refused messages become **dead letters** with raw bytes, reason, topic and receive time
   (`errors` lists the reasons, `deadletter` the form).
4. The **bridge** acknowledges a message only after the log has it durably (`bridge`, over `mqtt`).
5. Times are epoch milliseconds; a number becomes float32 in one place, `messages.columns`.

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

Files, in the order data flows: `mqtt` (the only user of paho), `packets`, `payloads`, `messages`,
`topics`, `bridge`, `logwriter` (what a log promises), `kafka` (Apache Kafka as that log),
`deadletter`, `errors`, `settings`. Sparkplug B as a second format comes in through `decoder` (the
seam): `sparkplug` (births, data, deaths), `sparkplugwire` (the only user of protobuf),
`sparkplugmap` (mapping file, names), `sparkplugstore` (what survives the process).

Beside the line: `broker` (a broker for this machine), `recordings` and `replay` (recorded data sets
over MQTT), `simulators` (the demo's fleet).
`ingest` imports nothing else of kpstream.
"""

__all__: list[str] = []
