"""Pages whose commands the tests run: the shell blocks, and a shell to run them in."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.fakes.ports import free_port, free_ports

NOT_RUN = "# not run: "
_DOCS = Path(__file__).parent.parent / "docs"


def shell_blocks(page: str) -> list[str]:
    """The blocks of shell commands on a page in docs/, in order."""
    text = (_DOCS / page).read_text(encoding="utf-8")
    fences = re.findall(r"^```(\w*)$", text, re.M)
    assert set(fences) <= {"sh", ""}, "shell commands only"
    return re.findall(r"^```sh\n(.*?)^```$", text, re.M | re.S)


def says_why_not(block: str) -> bool:
    """Whether the first line of a block states why it is not run."""
    return "not run" not in block or re.match(rf"{NOT_RUN}.{{20,}}\n", block) is not None


def run_blocks(
    blocks: list[str], home: Path, scheme: str = "http"
) -> subprocess.CompletedProcess[str]:
    """Run the blocks in one shell, with `home` as home and working folder.

    Free ports replace those of the page, which may be in use.
    """
    settings = {
        "KPSTREAM_SITE_KAFKA": f"127.0.0.1:{free_ports(2)}",
        "KPSTREAM_PIPELINE_INFLUX_URL": f"{scheme}://127.0.0.1:{free_port()}",
        "KPSTREAM_INGEST_MQTT_PORT": str(free_port()),
        "KPSTREAM_SITE_BASE_PORT": str(free_ports(100, multiple_of=100)),
        "KPSTREAM_SITE_PARTITIONS": "2",
    }
    inherited = {n: value for n, value in os.environ.items() if not n.startswith("KPSTREAM_")}
    servers = os.environ.get("KPSTREAM_SERVERS_DIR", "~/.cache/kpstream/servers")
    env = inherited | settings
    env |= {
        "HOME": str(home),
        "KPSTREAM_SERVERS_DIR": str(Path(servers).expanduser()),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    script = "set -euo pipefail\ntrap 'kpstream site down || true' EXIT\n" + "\n".join(
        f"echo '--- block {number}'\n{block}"
        for number, block in enumerate(blocks)
        if not block.startswith(NOT_RUN)
    )
    return subprocess.run(
        ["bash", "-c", script],
        cwd=home,
        env=env,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
