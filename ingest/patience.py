"""How long the first steps of a connection may take: one rule for all servers.

A first step waits either for the network or for a program:

- **The network answers**: name lookup and TCP connection. The limit is `REACH_S` and stays: the
  kernel repeats the request by itself, so a new attempt is as good as a longer wait.
- **A program answers**: the TLS handshake, CONNACK, SUBACK, the first answer of Kafka or InfluxDB.
  It may have to ask others first (a login back end, an authority for certificates), and every new
  attempt starts that work anew. So the limit grows (`Patience`): 5 s, then twice as long after
  each silence, 60 s at most. It does not shrink again while the process runs.

Silence means only that the wait was too short. It never counts as a refusal, and a message says how
long we waited and how long we wait next.

| step | limit | where |
|---|---|---|
| name lookup, TCP connection | `REACH_S` | `ingest.mqtt.socketloop`, `ingest.tls` |
| TLS handshake | `Patience` | `ingest.mqtt.socketloop` |
| CONNECT until CONNACK, SUBSCRIBE until SUBACK | `Patience` | `ingest.mqtt.policy` |
| a command that publishes (replay, dead letters) | `REACH_S`, then to the end of the attempt; after a silence as long as `Patience` grows | `ingest.mqtt.connection` (`wait_connected`) |
| a publication of such a command until PUBACK | `Patience.most_s` since anything was last confirmed, then the command gives up | `ingest.mqtt.publisher` |
| doctor: TLS, SUBACK, PUBACK | `Patience.most_s` | `deploy.doctor.brokersteps` |
| doctor: CONNACK | `Patience.first_s` for the usual MQTT version, the same for the other one, then `Patience.most_s` for one that was silent; a pinned version `most_s` at once | `deploy.doctor.brokersteps` |
| Kafka: first contact, append | 20 s; a repeated append waits for the same records, so no work is lost | `ingest.kafka` |
| InfluxDB: a write | 10 s; a write without an answer is repeated with fewer lines; from 100 lines on `Patience` grows from 10 s | `pipeline.stores.influx` |
| the line that a process prints after its start | 3 s for the broker, and then what it waits for | `deploy.processes.bridging` |
| programs of our own (mosquitto, Kafka, InfluxDB of a site) | minutes, by program: nobody else has to answer | `deploy.supervisor` |
"""  # noqa: E501 (a table cell is one line)

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["REACH_S", "Patience"]

REACH_S = 10.0
"""Seconds for which a first step waits for the network."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Limit of a step that a program answers; grows with the silences so far.

    Attributes:
        first_s: Limit of the first attempt, seconds.
        most_s: Longest limit, seconds.
    """

    first_s: float = 5.0
    most_s: float = 60.0

    def limit_s(self, silences: int) -> float:
        """Return the limit after so many silences.

        >>> [Patience().limit_s(silences) for silences in range(5)]
        [5.0, 10.0, 20.0, 40.0, 60.0]
        """
        return float(min(self.first_s * 2 ** min(silences, 30), self.most_s))
