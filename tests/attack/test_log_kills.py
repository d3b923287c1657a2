"""SIGKILL of a process that appends, round after round: everything confirmed is there, once."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from pipeline.log.locallog import SqliteLog
from tests.attack.account import Attack
from tests.fuzz.limits import MEMORY

_CHILD = """
import sys
from pipeline.log.locallog import SqliteLog
from pipeline.log.state import NewRecord
log = SqliteLog(sys.argv[1], partitions=1, linger_ms=0, min_free_bytes=0)
n = log.end_offset("t", 0) if "t" in log.topics() else 0
while True:
    futures = [log.append([NewRecord("t", b"%d" % (n + i) * 200)]) for i in range(20)]
    for future in futures:
        future.result()
    n += 20
    print(n, flush=True)
"""


def test_a_killed_log_has_everything_that_was_confirmed(attack: Attack) -> None:
    rounds, rng, confirmed, end = attack.size(short=3, long=57), random.Random(0), 0, 0
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        path = Path(folder) / "log.db"
        for _ in range(rounds):
            with subprocess.Popen(
                [sys.executable, "-c", _CHILD, str(path)], stdout=subprocess.PIPE, text=True
            ) as child:
                assert child.stdout is not None
                for _ in range(rng.randint(1, 60)):
                    confirmed = int(child.stdout.readline())
                child.send_signal(signal.SIGKILL)
                confirmed = max([confirmed, *map(int, child.stdout.read().split("\n")[:-1])])
            with SqliteLog(path, partitions=1, min_free_bytes=0) as log:
                end = log.end_offset("t", 0)
                at, values = 0, []
                while batch := log.read("t", 0, at):
                    values += [record.value for record in batch]
                    at = batch[-1].offset + 1
            assert values == [b"%d" % n * 200 for n in range(end)]
            assert end >= confirmed
        attack.note(f"{rounds} kills")
        attack.report(confirmed, lost=max(0, confirmed - end), unit="records")
