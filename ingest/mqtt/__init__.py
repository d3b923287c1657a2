"""MQTT: the connection to a broker, and a broker for this machine.

In: an endpoint (host, port, TLS files, credentials). Out: messages with the epoch of the connection
they came on, and confirmations of published ones. Promise: a message is acknowledged only when its
taker says so, in order, and only on the connection that delivered it.

`client` is the only user of paho; `packets` reads what paho does not show; `endpoint` and `tls` say
where the broker is and how it is trusted; `broker` starts mosquitto or the embedded broker, `child`
ends it with the process that started it.
"""

__all__: list[str] = []
