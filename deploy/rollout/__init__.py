"""Rollout: signed students, in waves, from a centre to its gateways.

The centre keeps a repository of static files that is made with The Update Framework (TUF), and
moves a release from step to step on the reports of the gateways. A gateway verifies what it
fetches (`deploy.updates`), compares a new student with the running one, and goes back by itself.

- `release`: the documents that both sides read: plan, release, index of releases.
- `report`: what a gateway says about itself.
- `repository`: the signed repository of the centre, and changes of its index.
- `metadata`, `keys`, `folder`, `ceremony`: signed files, private keys, durable writing, ceremonies.
- `points`: a report as points for InfluxDB.
- `inventory`: what the centre knows of its gateways.
- `controller`: which way a release goes next.
"""
