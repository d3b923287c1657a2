"""The chaos ledger of a site: every part is killed and paused, and nothing is lost.

At least fifty numbered devices publish through the whole pipeline while bridge, worker, store,
mosquitto, Kafka and InfluxDB are killed (SIGKILL) or frozen (SIGSTOP), and while devices send
messages twice and out of order. At the end InfluxDB must hold exactly one point for every window,
equal to the offline score of the same student, and the accounts must balance.

    make chaos                                      # 50 rounds, writes docs/results/chaos.md
    make chaos ARGS="--rounds 10 --seed 3"

Files: `fleet.py` (devices), `expected.py` (offline computation), `faults.py` (schedule of faults),
`ledger.py` (one whole run), `__main__.py` (the command).
"""
