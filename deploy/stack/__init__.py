"""The servers of a site, natively on one machine: mosquitto, Kafka, InfluxDB 2.

In: the settings of a site. Out: running servers, topics, buckets, certificates, and unit files.
Promise: servers listen on loopback, secrets are readable by their owner only, and every step is
safe to repeat.

1. `process`, `servers`, `mosquitto`, `influxapi`: each server as a child process.
2. `install`: downloads or builds the servers (Maven, Go, Cargo).
3. `topics`: partitions, retention and compaction of the topics in Kafka.
4. `certs`, `tlsconfig`, `acl`: certificates, TLS settings and access control.
5. `site`, `siteproblems`, `sitesetup`, `siteparts`: a site from its settings, the reasons why it
   cannot start, its set-up, and its parts for the supervisor.
6. `units`, `composefile`, `generated`: the same site for systemd and Docker Compose.

```python
from pathlib import Path
from deploy.stack.servers import InfluxServer, KafkaServer

with KafkaServer(Path("kafka")) as kafka, InfluxServer(Path("influx")) as influx:
    token = influx.setup("factory", "kpstream")
    print(kafka.address, influx.url)
```
"""

__all__: list[str] = []
