"""The chaos ledger of a site: everything is killed and paused, and nothing is missing.

Fifty and more numbered devices speak through the whole line while bridge, worker, store, mosquitto,
Kafka and InfluxDB are killed (SIGKILL) or made to stand still (SIGSTOP), and while devices send
messages twice and out of order. At the end InfluxDB must hold exactly one point for every window,
equal to what the same student computes offline, and the accounts must balance.

    make chaos                                      # 50 rounds, writes docs/results/chaos.md
    make chaos ARGS="--rounds 10 --seed 3"

`fleet.py` the devices, `expected.py` the offline computation, `faults.py` what is done to the line,
`ledger.py` one whole run, `__main__.py` the command.
"""
