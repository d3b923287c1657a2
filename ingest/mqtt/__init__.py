"""MQTT: a connection to a broker that stays up, a publisher, and a broker for this machine.

In: an endpoint (host, port, TLS files, credentials). Out: messages with the epoch of the connection
that delivered them, and confirmations of published messages. Promise: a message is acknowledged
only when the bridge requests it, in order, and only over the connection that delivered it.

Files, lowest first:

- `endpoint`: address of the broker, credentials, protocol version.
- `packets`: the socket under paho, which parses messages itself.
- `subscriptions`: the filters to request, and whether they are in place.
- `policy`: the state machine of a connection; pure.
- `socketloop`: paho on the asyncio loop; the only file that imports paho.
- `connection`: combines the three.
- `publisher`: publishes with QoS 1 and counts confirmations.
- `broker`: starts mosquitto or the embedded amqtt as a child process.
"""

__all__: list[str] = []
