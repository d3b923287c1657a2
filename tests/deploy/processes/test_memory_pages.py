"""Pages of libraries are unmapped after the start; what they hold is still there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
RUN = """
import hashlib, sqlite3, ssl, sys
import numpy as np
from deploy.processes.memory import freeze_startup_objects
from models.artifact import read_artifact
from models.session import Student
from models.zoo import zoo_path

def resident():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssFile"))

def work():
    student = Student(read_artifact(zoo_path("rul-fd001")))
    shape = (student.manifest.window.length, len(student.manifest.channels))
    scores = student.score(np.ones((70, *shape), np.float32)).rul
    rows = sqlite3.connect(":memory:").execute("SELECT 6 * 7, upper('a')").fetchall()
    solved = np.linalg.solve(np.eye(40) * 3, np.arange(40.0))
    digest, random = hashlib.sha256(b"x").hexdigest(), ssl.RAND_bytes(1)
    return scores.tolist(), rows, solved.tolist(), digest, len(random)

before, mapped = work(), resident()
freeze_startup_objects()
left = resident()
assert left < mapped / 2, (left, mapped)
assert work() == before
"""


@pytest.mark.skipif(not Path("/proc/self/smaps").is_file(), reason="needs Linux")
def test_libraries_work_on_after_their_pages_were_unmapped() -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
