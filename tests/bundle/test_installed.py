"""Real bundles from the package index: checked by tags, and installed where no network is.

The bundle for this machine is installed into a fresh environment with the pip that it brings, in a
network of its own that reaches nothing. Then a whole gateway runs from it and scores real engines.
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path

import pytest

from deploy.bundle.build import build_bundle
from deploy.bundle.check import check_bundle
from deploy.bundle.checkout import Checkout
from deploy.bundle.target import MACHINES, PYTHONS, Target
from deploy.gateway.bundle import open_bundle
from tests.bundle.__main__ import INSIDE
from tests.test_import_rule import ROOT

pytestmark = [pytest.mark.needs_package_index, pytest.mark.slow, pytest.mark.timeout(1800)]

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with the files of this one, which nobody changes while the tests run."""
    folder = Checkout(ROOT).copy_to(tmp_path_factory.mktemp("clone"))
    git = ["git", "-C", str(folder), "-c", "user.name=x", "-c", "user.email=x@example"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *command], check=True)
    return folder


@pytest.fixture(scope="module")
def bundle_for(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes the bundle of a machine for this Python, once."""
    if PYTHON not in PYTHONS:
        pytest.skip(f"no bundle is made for Python {PYTHON}")
    out = tmp_path_factory.mktemp("bundles")
    return cache(lambda machine: build_bundle(clone, Target(machine, PYTHON), out, print))


@pytest.mark.parametrize(
    ("machine", "faust"),
    [
        ("x86_64", "faust-streaming is compiled"),
        ("aarch64", "faust-streaming is pure: without its compiled parts"),
    ],
)
def test_every_wheel_fits_and_every_requirement_is_met(
    bundle_for: Callable[[str], Path], machine: str, faust: str
) -> None:
    checked = check_bundle(bundle_for(machine))
    assert checked.problems == ()
    assert checked.notes[1:] == (faust,), "the schema of the bill was checked too"


def test_the_same_checkout_gives_the_same_bytes(
    bundle_for: Callable[[str], Path], clone: Path, tmp_path: Path
) -> None:
    """Also what is built here: Faust for aarch64, and kpstream."""
    first = bundle_for("aarch64")
    again = build_bundle(clone, Target("aarch64", PYTHON), tmp_path, print)
    assert again.name == first.name
    assert sha256(again.read_bytes()).hexdigest() == sha256(first.read_bytes()).hexdigest()


@pytest.mark.needs_own_network
@pytest.mark.needs_mosquitto
@pytest.mark.needs_data
def test_a_gateway_runs_from_a_bundle_without_any_network(
    bundle_for: Callable[[str], Path], tmp_path: Path, data_dir: Path
) -> None:
    if platform.machine() not in MACHINES:
        pytest.skip(f"no bundle is made for {platform.machine()}")
    bundle = open_bundle(bundle_for(platform.machine()), tmp_path / "bundle")
    venv = tmp_path / "venv"
    python = str(venv / "bin/python")
    shutil.copyfile(INSIDE, tmp_path / "inside.py")  # away from the clone
    (pip,) = (wheel for wheel in bundle.wheels if wheel.name.startswith("pip-"))
    alone(tmp_path, [sys.executable, "-m", "venv", "--without-pip", str(venv)])
    install = [python, f"{pip}/pip", "install", "--quiet", "--no-index", "--require-hashes"]
    install += ["--find-links", str(bundle.folder / "wheels")]
    alone(tmp_path, [*install, "-r", str(bundle.folder / "requirements.txt")])
    alone(tmp_path, [python, f"{pip}/pip", "check"])
    counted = alone(
        tmp_path,
        [python, "inside.py", "gateway", str(data_dir / "cmapss.zip"), str(tmp_path / "trial")],
    )
    gateway = json.loads(counted.splitlines()[-1])
    totals = gateway["totals"]
    assert totals["received"] == totals["windowed"] == gateway["sent"] > 0
    assert totals["missing"] == 0
    assert totals["scored"] == gateway["points"] == gateway["windows"] >= 256
    assert gateway["exit_code"] == 0
    kind = "compiled" if platform.machine() == "x86_64" else "pure Python"
    assert f"faust-streaming 0.15.3 ({kind})" in gateway["doctor"]


@pytest.mark.needs_own_network
def test_its_installer_installs_it_without_any_network(
    bundle_for: Callable[[str], Path], tmp_path: Path
) -> None:
    if platform.machine() not in MACHINES:
        pytest.skip(f"no bundle is made for {platform.machine()}")
    archive = bundle_for(platform.machine())
    alone(tmp_path, ["tar", "-xf", str(archive)])
    installer = tmp_path / archive.stem / "install.sh"
    image = tmp_path / "image"
    told = alone(
        tmp_path,
        [f"PYTHON={sys.executable}", str(installer), "install", "--root", str(image)],
    )
    assert "packages from the bundle" in told
    python = str(image / "opt/kpstream/current/venv/bin/python")
    said = alone(tmp_path, [python, "-m", "deploy.cli", "--version"])
    assert said.split()[-1] == archive.stem.split("-")[1]


def alone(folder: Path, command: list[str]) -> str:
    """Run a command with a loopback interface and nothing else; returns its standard output."""
    alone = ["unshare", "--net", "sh", "-euc", 'ip link set lo up; exec env -i "$@"', "sh"]
    environ = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", f"HOME={folder}"]
    shown = subprocess.run(
        [*alone, *environ, *command],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=1200,
    )
    return shown.stdout
