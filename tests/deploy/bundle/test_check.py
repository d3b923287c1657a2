"""The check of a bundle believes nothing: each lie and each gap is found, and named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from deploy.bundle.check import check_bundle
from deploy.bundle.target import MACHINES, PYTHONS, Target
from deploy.gateway.bundle import open_bundle
from tests.fakes.bundles import seal
from tests.fakes.wheels import elf, make_bundle_content, make_wheel, pack_content

PI = Target("aarch64", "3.11")


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("python", PYTHONS)
def test_a_sound_bundle_passes_for_every_target(tmp_path: Path, machine: str, python: str) -> None:
    target = Target(machine, python)
    name = make_bundle_content(tmp_path / "content", target)
    archive = pack_content(tmp_path / "content", name)
    assert archive.name == f"kpstream-1.2.3-{machine}-py{python.replace('.', '')}.tar"
    checked = check_bundle(archive)
    assert checked.problems == ()
    assert checked.notes == (
        f"kpstream 1.2.3 for {machine}, Python {python}, glibc 2.17 or later: 5 wheels",
        "faust-streaming is pure: without its compiled parts",
    )
    assert check_bundle(tmp_path / "content").problems == ()
    opened = open_bundle(archive, tmp_path / "opened")
    assert (opened.machine, opened.python, opened.version) == (machine, python, "1.2.3")


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    archives = []
    for folder in (tmp_path / "1", tmp_path / "2"):
        name = make_bundle_content(folder / "content", PI)
        archives.append(pack_content(folder / "content", name).read_bytes())
        for path in (folder / "content").rglob("*"):
            path.touch()  # other times
    assert archives[0] == archives[1]


def replace_wheel(name: str, **changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for path in folder.glob(f"wheels/{name}-*.whl"):
            path.unlink()
        make_wheel(folder / "wheels", name, **changes)

    return change


def edit(file: str, change: Callable[[Any], object]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        content = json.loads((folder / file).read_text())
        change(content)
        (folder / file).write_text(json.dumps(content))

    return write


def add_wheel(folder: Path) -> None:
    make_wheel(folder / "wheels", "stowaway")


def add_second_numpy(folder: Path) -> None:
    make_wheel(folder / "wheels", "numpy", "2.2")


def drop_first_line(folder: Path) -> None:
    path = folder / "requirements.txt"
    path.write_text("\n".join(path.read_text().splitlines()[2:]))


CP = "cp311-cp311-manylinux_2_28"
CHANGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "other machine": (replace_wheel("numpy", version="2.1", tag=f"{CP}_x86_64"), "does not fit"),
    "other code": (
        replace_wheel(
            "numpy", version="2.1", tag=f"{CP}_aarch64", files={"numpy/core.so": elf(62)}
        ),
        "holds machine code for x86_64",
    ),
    "newer C library": (
        replace_wheel("numpy", version="2.1", tag="cp311-cp311-manylinux_2_39_aarch64"),
        "does not fit",
    ),
    "old version": (replace_wheel("numpy", version="1.9"), "numpy>=2 is asked for, 1.9 is here"),
    "missing": (lambda folder: next(folder.glob("wheels/tuf-*")).unlink(), "tuf is missing"),
    "no pip": (lambda folder: next(folder.glob("wheels/pip-*")).unlink(), "no wheel of pip"),
    "stowaway": (add_wheel, "nothing needs the wheel of stowaway"),
    "two of one": (add_second_numpy, "two wheels of numpy"),
    "no wheel": (
        lambda folder: (folder / "wheels/numpy-1.whl").write_bytes(b"x"),
        "numpy-1.whl is no wheel",
    ),
    "other version": (edit("bundle.json", lambda about: about.update(version="9")), "is 1.2.3"),
    "other Faust": (
        edit("bundle.json", lambda about: about.update(faust="compiled")),
        "says faust 'compiled', and the wheels say 'pure'",
    ),
    "other C library": (
        edit("bundle.json", lambda about: about.update(glibc="2.5")),
        "says glibc '2.5'",
    ),
    "no students": (edit("bundle.json", lambda about: about.pop("students")), "says students None"),
    "other target": (
        edit("bundle.json", lambda about: about.update(machine="riscv64")),
        "no bundle is made for the machine 'riscv64'",
    ),
    "short list": (drop_first_line, "requirements.txt does not list exactly the wheels"),
    "no bill": (lambda folder: (folder / "sbom.cdx.json").unlink(), "is missing or damaged"),
    "bill with a gap": (
        edit("sbom.cdx.json", lambda bill: bill["components"].pop(0)),
        "sbom.cdx.json does not list exactly the wheels",
    ),
    "bill of another form": (
        edit("sbom.cdx.json", lambda bill: bill.update(colour="red")),
        "does not match the schema of CycloneDX",
    ),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_change_is_found_also_if_all_digests_are_right(tmp_path: Path, kind: str) -> None:
    change, problem = CHANGES[kind]
    make_bundle_content(tmp_path / "content", PI)
    change(tmp_path / "content")
    seal(tmp_path / "content")
    assert problem in "\n".join(check_bundle(tmp_path / "content").problems)


def test_a_file_that_changed_after_the_bundle_was_made_is_found(tmp_path: Path) -> None:
    name = make_bundle_content(tmp_path / "content", PI)
    (tmp_path / "content/install.sh").write_text("#!/bin/sh\nexit 0\n")
    archive = pack_content(tmp_path / "content", name)
    assert check_bundle(archive).problems == (
        "the digest of install.sh differs: copy the bundle again",
    )


def test_an_archive_with_the_name_of_another_is_found(tmp_path: Path) -> None:
    name = make_bundle_content(tmp_path / "content", PI)
    archive = pack_content(tmp_path / "content", name)
    other = archive.with_name("kpstream-1.2.3-x86_64-py311.tar")
    shutil.move(archive, other)
    (problem,) = check_bundle(other).problems
    assert "its content is kpstream-1.2.3-aarch64-py311" in problem


def test_the_compiled_parts_of_faust_are_told(tmp_path: Path) -> None:
    make_bundle_content(tmp_path / "content", PI)
    wheels = tmp_path / "content/wheels"
    next(wheels.glob("faust_streaming-*")).unlink()
    make_wheel(
        wheels,
        "faust-streaming",
        "0.15.3",
        tag=f"{CP}_aarch64",
        files={"faust/_cython/streams.so": elf(183)},
    )
    seal(tmp_path / "content")
    problems = "\n".join(check_bundle(tmp_path / "content").problems)
    assert "says faust 'pure', and the wheels say 'compiled'" in problems


def test_every_file_has_its_digest_in_the_index(tmp_path: Path) -> None:
    content = tmp_path / "content"
    make_bundle_content(content, PI)
    about = json.loads((content / "bundle.json").read_text())
    assert about["files"] == {
        path.relative_to(content).as_posix(): sha256(path.read_bytes()).hexdigest()
        for path in content.rglob("*")
        if path.is_file() and path.name != "bundle.json"
    }
    assert (about["format"], about["extras"]) == (1, ["gateway", "rollout"])
