"""The commands of docs/security.md, run unchanged, one after the other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docpages import run_blocks, says_why_not, shell_blocks

BLOCKS = shell_blocks("security.md")


def test_every_command_is_run_or_states_why_not() -> None:
    assert len(BLOCKS) >= 8
    assert [block for block in BLOCKS if not says_why_not(block)] == []


@pytest.mark.needs_mosquitto
@pytest.mark.needs_kafka_server
@pytest.mark.needs_influxd
@pytest.mark.slow
def test_commands_work_in_their_order(tmp_path: Path) -> None:
    done = run_blocks(BLOCKS, tmp_path, "https")
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-6000:]
    assert "The site is ready" in said
    assert "the site is down" in said
    state = tmp_path / ".local" / "state"
    accounts = "\n".join(path.read_text() for path in state.rglob("bridge-1.log"))
    taken = re.search(r"bridge-1 stopped: ([\d,]+) messages taken", accounts)
    assert taken, accounts
    assert int(taken[1].replace(",", "")) > 0, "what the operator published has arrived"
    denied = (tmp_path / "certs" / "mosquitto-devices.acl").read_text()
    assert "user plant-7/press-2\ntopic deny #" in denied
