"""`make growth`: what a gateway needs for 100, 1,000 and 10,000 devices at one total rate, and how
long it takes to recover.

1. `runs` measures: memory, CPU, delays, recovery after SIGKILL, and the instructions of a reading.
2. `page` writes docs/results/growth.md with its picture.

Gateways, load and journal are those of `tests.bench.peers`.
"""
