"""The commands of docs/gateway-install.md, run unchanged: from a bundle to a gateway, and back.

They run as root in a mount namespace over this machine, so that /etc, /opt, /usr/local and /var
stay as they are, and in a network of their own. A small package stands for kpstream.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.docpages import NOT_RUN, says_why_not, shell_blocks
from tests.fakes import systemctl
from tests.fakes.bundles import make_bundle, seal
from tests.fakes.smallwheel import add_pip, small_wheel

ROOT = Path(__file__).parent.parent
BLOCKS = shell_blocks("gateway-install.md")
PYTHON = Path("/usr/bin/python3")

OVERLAY = """
set -euo pipefail
ip link set lo up
mount -t tmpfs tmpfs "$LAYERS"
for place in etc opt var usr/local; do
  mkdir -p "$LAYERS/$place/up" "$LAYERS/$place/work"
  mount -t overlay overlay \
    -o "lowerdir=/$place,upperdir=$LAYERS/$place/up,workdir=$LAYERS/$place/work" "/$place"
done
"""


def test_every_command_is_run_or_states_why_not() -> None:
    assert len(BLOCKS) >= 12
    assert [block for block in BLOCKS if not says_why_not(block)] == []


def _in_namespace(script: str, layers: Path, path: str, cwd: Path) -> subprocess.CompletedProcess:
    layers.mkdir()
    return subprocess.run(
        ["unshare", "--mount", "--net", "bash", "-c", OVERLAY + script],
        env={"PATH": path, "LAYERS": str(layers), "HOME": str(cwd)},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def _bundle(folder: Path, version: str) -> None:
    """An archive under the name of the page, whatever this machine is."""
    name = f"kpstream-{version}-aarch64-py311"
    made = make_bundle(folder / name, version=version, wheel=small_wheel(version))
    about = json.loads((made / "bundle.json").read_text())
    asked = [str(PYTHON), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    python = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    (made / "bundle.json").write_text(json.dumps(about | {"python": python}))
    shutil.copy(ROOT / "deploy/gateway/install.sh", made)
    add_pip(made)
    seal(made)
    with tarfile.open(folder / f"{name}.tar", "w") as archive:
        archive.add(made, name)
    shutil.rmtree(made)


@pytest.mark.slow
@pytest.mark.needs_mosquitto
def test_the_commands_work_in_their_order(tmp_path: Path) -> None:
    path = f"{tmp_path}/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    if os.geteuid() != 0 or not PYTHON.exists():
        pytest.skip("needs root and the Python of the system")
    if _in_namespace("", tmp_path / "try", path, tmp_path).returncode:
        pytest.skip("needs mount namespaces and overlay file systems")
    before = {
        name: Path(name).stat().st_mtime_ns for name in ("/etc/passwd", "/opt", "/usr/local/bin")
    }
    for version in ("0.2.0", "0.3.0"):
        _bundle(tmp_path, version)
    systemctl.script(Path("/"), tmp_path / "bin")
    sudo = tmp_path / "bin/sudo"
    sudo.write_text('#!/bin/sh\nexec "$@"\n')
    sudo.chmod(0o755)
    run = [block for block in BLOCKS if not block.startswith(NOT_RUN)]
    script = "\n".join(f"echo '--- block {number}'\n{block}" for number, block in enumerate(run))
    try:
        done = _in_namespace(script, tmp_path / "layers", path, tmp_path)
    finally:
        systemctl.stop_all(tmp_path / "bin")
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-6000:]
    assert "would link: /opt/kpstream/current -> versions/0.2.0" in said
    assert "version 0.2.0 runs and is ready" in said
    assert "version 0.3.0 runs and is ready" in said
    assert len(re.findall(r"^runs +0\.2\.0$", said, re.M)) == 2, "after install and rollback"
    assert "removed; /etc/kpstream and /var/lib/kpstream are kept" in said
    after = {name: Path(name).stat().st_mtime_ns for name in before}
    assert after == before, "this machine is as it was"
