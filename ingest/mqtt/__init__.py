"""MQTT: a connection to a broker that stays up, a publisher, and a broker for this machine.

In: an endpoint (host, port, TLS files, credentials). Out: messages with the epoch of the connection
that delivered them, and confirmations of published messages. Promise: a message is acknowledged
only when the bridge requests it, in order, and only over the connection that delivered it.

Files, lowest first:

- `endpoint`: address of the broker, credentials, protocol version.
- `packets`: the socket under paho, which parses messages itself.
- `subscriptions`: the filters to request, and whether they are in place.
- `announced`, `promise`: what a broker announces, and whether our promise holds with it.
- `reasons`: what a broker did, in words; the table of cases.
- `problem`: which problem is on display, and what clears it.
- `versions`: which MQTT version the next attempt speaks.
- `attempt`: what is known about one attempt.
- `policy`: the state machine of a connection; pure.
- `client`: paho's client with a socket that we open.
- `socketloop`: paho on the asyncio loop. `callbacks`: what it reports; `resting`: when it reads.
- `probe`: one connection that asks a broker step by step.
- `versionprobe`: asks a broker whether it answers MQTT 5.
- `connection`: combines them.
- `publisher`: publishes with QoS 1 and counts confirmations.
- `broker`: starts mosquitto or the embedded amqtt as a child process.
"""

__all__: list[str] = []
