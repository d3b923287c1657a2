"""Which versions a target gets, and what of a checkout goes into a build."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from deploy.bundle.checkout import Checkout
from deploy.bundle.content import wanted_package
from deploy.bundle.errors import CheckoutInvalid, FetchFailed
from deploy.bundle.fetch import fetch_wheels, pinned_for, read_pinned
from deploy.bundle.target import MACHINES, PYTHONS, Target
from tests.fakes.wheels import make_wheel
from tests.test_constraints import EXTRAS, PROJECT, ROOT

HASH = "sha256:" + "0" * 64


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("python", PYTHONS)
def test_every_target_has_one_version_of_what_is_required(machine: str, python: str) -> None:
    target = Target(machine, python)
    chosen = pinned_for(read_pinned(ROOT / "requirements-gateway.txt"), target)
    extras = wanted_package().extras
    needs = map(Requirement, (*PROJECT["dependencies"], *(n for e in extras for n in EXTRAS[e])))
    wanted = {need.name: need.specifier for need in needs if target.concerns(need.marker)}
    wanted.pop("kpstream")
    assert wanted.keys() <= chosen.keys()
    for name, specifier in wanted.items():
        assert Requirement(chosen[name].line.partition(" ")[0]).specifier != specifier
        assert chosen[name].line.partition(" ")[0].partition("==")[2] in specifier


def test_markers_are_read_for_the_target_and_not_for_this_python(tmp_path: Path) -> None:
    file = tmp_path / "pins.txt"
    file.write_text(
        "# a comment\n"
        f"numpy==2.2 ; python_full_version < '3.11' \\\n    --hash={HASH}\n"
        f"numpy==2.4 ; python_full_version >= '3.11' \\\n    --hash={HASH} \\\n    --hash={HASH}\n"
        f"colorama==0.4 ; sys_platform == 'win32' \\\n    --hash={HASH}\n"
    )
    lines = {
        python: [
            pin.line for pin in pinned_for(read_pinned(file), Target("aarch64", python)).values()
        ]
        for python in ("3.10", "3.13")
    }
    assert lines == {
        "3.10": [f"numpy==2.2 --hash={HASH}"],
        "3.13": [f"numpy==2.4 --hash={HASH} --hash={HASH}"],
    }


@pytest.mark.parametrize(
    "line", ["numpy>=2", "numpy==2.4", "numpy==2.*", f"numpy>=2 --hash={HASH}"]
)
def test_a_line_without_exact_version_or_hash_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "pins.txt").write_text(line)
    with pytest.raises(FetchFailed, match="renew the file"):
        read_pinned(tmp_path / "pins.txt")


def test_two_versions_for_one_target_are_refused(tmp_path: Path) -> None:
    (tmp_path / "pins.txt").write_text(f"a==1 --hash={HASH}\na==2 --hash={HASH}\n")
    with pytest.raises(FetchFailed, match="two versions of a"):
        pinned_for(read_pinned(tmp_path / "pins.txt"), Target("aarch64", "3.11"))


def test_the_tools_are_those_of_the_constraints() -> None:
    tools = {
        pin.name: pin.line.partition(" ")[0]
        for pin in read_pinned(ROOT / "deploy/bundle/tools.txt")
    }
    constraints = (ROOT / "constraints.txt").read_text().splitlines()
    for name in ("setuptools", "packaging"):
        assert tools[name] in constraints
    assert {"pip", "setuptools", "setuptools-scm", "wheel", "cython"} <= tools.keys()


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    folder = tmp_path / "clone"
    folder.mkdir()
    git = ["git", "-C", str(folder), "-c", "user.name=x", "-c", "user.email=x@example"]
    subprocess.run([*git, "init", "-q"], check=True)
    for name in ("requirements-gateway.txt", "kept.py", "deleted.py"):
        (folder / name).write_text(f"# {name}\n")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "x"], check=True)
    return folder


def test_a_build_gets_what_git_knows_and_nothing_that_lies_about(
    tmp_path: Path, clone: Path
) -> None:
    checkout = Checkout(clone)
    assert len(checkout.revision) == 40
    (clone / "build").mkdir()
    (clone / "build/old.py").write_text("# left behind by an earlier build\n")
    (clone / "deleted.py").unlink()
    (clone / "kept.py").write_text("# changed\n")
    copied = checkout.copy_to(tmp_path / "copy")
    assert {path.name: path.read_text() for path in copied.iterdir()} == {
        "requirements-gateway.txt": "# requirements-gateway.txt\n",
        "kept.py": "# changed\n",
    }
    assert Checkout(clone).revision == f"{checkout.revision}+changes"


def test_what_is_no_clone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckoutInvalid, match="name a clone of kpstream"):
        Checkout(tmp_path)
    (tmp_path / "requirements-gateway.txt").touch()
    with pytest.raises(CheckoutInvalid, match="git does not read"):
        Checkout(tmp_path)


def test_a_wheel_that_nobody_needs_is_refused_before_anything_is_fetched(
    tmp_path: Path, clone: Path
) -> None:
    wheel = make_wheel(tmp_path, "small")
    (clone / "requirements-gateway.txt").write_text(f"a==1 --hash={HASH}\n")
    with pytest.raises(FetchFailed, match="is not needed"):
        fetch_wheels(
            Checkout(clone), Target("aarch64", "3.11"), tmp_path / "w/wheels", print, [wheel]
        )
