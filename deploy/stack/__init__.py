"""The servers of a site, natively on one machine: mosquitto, Kafka, InfluxDB 2.

1. `servers`: each server as a child process with one set of verbs (start, stop, kill, pause).
2. `install`: finds the servers on this machine, or makes them (Maven, Go, Cargo).
3. `topics`: names, partitions, retention and compaction of the topics in Kafka.
4. `supervisor` over `parts`: keeps servers and our own processes running, restarts what dies.
5. `site`: all parts of a site from its settings; `units`: the same for systemd and compose.

```python
from pathlib import Path
from deploy.stack.servers import InfluxServer, KafkaServer

with KafkaServer(Path("kafka")) as kafka, InfluxServer(Path("influx")) as influx:
    token = influx.setup("factory", "kpstream")
    print(kafka.address, influx.url)
```
"""
