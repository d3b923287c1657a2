"""Rollout: signed students, in waves, from a centre to its gateways.

The centre keeps a repository of static files that is made with The Update Framework (TUF), and
moves a release from step to step on the reports of the gateways. A gateway verifies what it
fetches (`deploy.updates`), compares a new student with the running one, and goes back by itself.

- `release`: the documents that both sides read: plan, release, index of releases.
- `report`: what a gateway says about itself.
- `repository`: the signed repository of the centre; `changes`: from one index to the next.
- `folder`, `metadata`: the lock and durable writing; signed files, read and verified.
- `keys`, `passphrase`, `ceremony`: private keys, their passphrase, setting up and replacing them.
- `transfer`, `staticserver`, `note`: copies by hand, a server for trials, "look now" over MQTT.
- `points`: a report as points for InfluxDB.
- `inventory`: what the centre knows of its gateways.
- `controller`: which way a release goes next.
"""
