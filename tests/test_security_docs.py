"""The commands of docs/security.md, run as they stand there, one after the other."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ingest.broker import free_port

PAGE = Path(__file__).parent.parent / "docs" / "security.md"
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
NOT_RUN = "# not run: "


def test_every_command_is_run_or_says_why_not() -> None:
    assert len(BLOCKS) >= 8
    for block in BLOCKS:
        if "not run" in block:
            assert re.match(rf"{NOT_RUN}.{{20,}}\n", block), block
    fences = re.findall(r"^```(\w*)$", PAGE.read_text(encoding="utf-8"), re.M)
    assert set(fences) == {"sh", ""}, "shell commands only"


@pytest.mark.needs_mosquitto
@pytest.mark.needs_kafka_server
@pytest.mark.needs_influxd
@pytest.mark.slow
def test_commands_work_in_their_order(tmp_path: Path) -> None:
    run = [block for block in BLOCKS if not block.startswith(NOT_RUN)]
    ports = {  # those of the page may be taken
        "KPSTREAM_SITE_KAFKA": f"127.0.0.1:{free_port()}",
        "KPSTREAM_PIPELINE_INFLUX_URL": f"https://127.0.0.1:{free_port()}",
        "KPSTREAM_INGEST_MQTT_PORT": str(free_port()),
        "KPSTREAM_SITE_BASE_PORT": str(random.randrange(20_000, 29_000, 100)),
        "KPSTREAM_SITE_PARTITIONS": "2",
    }
    mine = {name: value for name, value in os.environ.items() if not name.startswith("KPSTREAM_")}
    servers = os.environ.get("KPSTREAM_SERVERS_DIR", "~/.cache/kpstream/servers")
    env = (
        mine
        | ports
        | {
            "HOME": str(tmp_path),
            "KPSTREAM_SERVERS_DIR": str(Path(servers).expanduser()),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
    )
    script = "set -euo pipefail\ntrap 'kpstream site down || true' EXIT\n" + "\n".join(
        f"echo '--- block {number}'\n{block}" for number, block in enumerate(run)
    )
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
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
