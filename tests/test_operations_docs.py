"""The commands of docs/operations.md, run unchanged: from nothing to a running site."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docpages import run_blocks, says_why_not, shell_blocks

BLOCKS = shell_blocks("operations.md")


def test_every_command_is_run_or_states_why_not() -> None:
    assert len(BLOCKS) >= 8
    assert [block for block in BLOCKS if not says_why_not(block)] == []


@pytest.mark.needs_mosquitto
@pytest.mark.needs_kafka_server
@pytest.mark.needs_influxd
@pytest.mark.slow
def test_a_newcomer_gets_a_running_site_and_a_backup(tmp_path: Path) -> None:
    done = run_blocks(BLOCKS, tmp_path)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-6000:]
    assert said.count("The site is ready") == 2
    logs = list(tmp_path.glob(".local/state/*/logs/bridge-1.log"))
    taken = re.findall(r"bridge-1 stopped: ([\d,]+) messages taken", logs[0].read_text())
    assert int(taken[0].replace(",", "")) > 0, "the simulated fleet arrived"
    backup = (tmp_path / "site-backup.tgz").stat()
    assert backup.st_size > 10_000
    assert backup.st_mode & 0o777 == 0o600, "it holds every token of the site"
    assert "har-waist" in said
