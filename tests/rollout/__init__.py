"""A fleet of small gateways that follow a real centre: `python -m tests.rollout`, `make rollout`.

Each gateway is a process that can be killed: the real agent, fetcher, registry, students, contests
and reporter, fed with windows at a steady rate; no Faust, no console. They are forked from a server
that has imported everything (`forkserver`). The broker is mosquitto, the centre a real repository
behind a web server, and `kpstream centre control` moves the releases. Each gateway reaches broker
and centre through ports of its own (`lines`), which can be cut.

- `gateway`: the process; `feed`: its windows; `ledger`: what it wrote about each of them.
- `fleet`: starts, kills, pauses and cuts everything; `cases`: what is released, and what must hold.
"""
