"""A disk without a free byte: appends are refused, nothing confirmed is lost, and room ends it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.attack.account import Attack

_SCRIPT = """
import json, sys
from pathlib import Path
from pipeline.errors import LogFull
from pipeline.log.locallog import SqliteLog
from pipeline.log.state import NewRecord

folder, rounds = Path(sys.argv[1]), int(sys.argv[2])
ballast, path = folder / "ballast", folder / "log.db"
confirmed, refused, recovered = [], 0, 0
with SqliteLog(path, partitions=1, min_free_bytes=0, linger_ms=0) as log:
    log.append([NewRecord("t", b"first")]).result()
    confirmed.append("first")
    for n in range(rounds):
        try:
            with ballast.open("wb") as file:
                while file.write(bytes(4096)):
                    file.flush()
        except OSError:
            pass
        for k in range(100):
            value = f"{n}.{k} ".ljust(3000, "x")
            try:
                log.append([NewRecord("t", value.encode())]).result(30)
            except LogFull:
                refused += 1
                break
            confirmed.append(value)
        ballast.unlink()
        value = f"{n}.after"
        log.append([NewRecord("t", value.encode())]).result(30)
        confirmed.append(value)
        recovered += 1
with SqliteLog(path, min_free_bytes=0) as log:
    at, found = 0, []
    while batch := log.read("t", 0, at):
        found += [record.value.decode() for record in batch]
        at = batch[-1].offset + 1
print(json.dumps({
    "confirmed": len(confirmed), "refused": refused, "recovered": recovered,
    "lost": len(set(confirmed) - set(found)), "doubled": len(found) - len(set(found)),
    "is_same": found == confirmed,
}))
"""


def _on_a_small_disk(folder: Path, megabytes: int, command: list[str]) -> list[str]:
    """The command in a mount namespace of its own, where the folder is a disk of that size."""
    mount = f'mount -t tmpfs -o size={megabytes}m none "$0" && exec "$@"'
    return ["unshare", "-Urm", "sh", "-c", mount, str(folder), *command]


def test_a_full_disk_refuses_appends_and_loses_nothing(attack: Attack, tmp_path: Path) -> None:
    try:
        subprocess.run(_on_a_small_disk(tmp_path, 1, ["true"]), check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no mount namespace here, so no small disk: run it as a user who may have one")
    rounds = attack.size(short=3, long=100)
    command = [sys.executable, "-c", _SCRIPT, str(tmp_path), str(rounds)]
    done = subprocess.run(
        _on_a_small_disk(tmp_path, 8, command), capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    attack.note(f"{seen['refused']} times full")
    attack.report(seen["confirmed"], seen["lost"], seen["doubled"], unit="records")
    assert seen["refused"] == seen["recovered"] == rounds
    assert seen["is_same"]
