"""What a wheel says of itself, and whether it runs on a target."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.requirements import Requirement

from deploy.bundle.errors import TargetUnknown, WheelInvalid
from deploy.bundle.target import MACHINES, PYTHONS, Target
from deploy.bundle.wheels import glibc_needed, needs_of, read_students, read_wheel, unmet
from models.artifact import read_artifact
from models.zoo import list_zoo, zoo_path
from tests.fakes.wheels import elf, make_wheel

PI = Target("aarch64", "3.11")


@pytest.mark.parametrize(
    ("tag", "fits"),
    [
        ("py3-none-any", True),
        ("py2.py3-none-any", True),
        ("cp311-cp311-manylinux_2_17_aarch64.manylinux2014_aarch64", True),
        ("cp36-abi3-manylinux2014_aarch64", True),
        ("cp311-cp311-manylinux_2_36_aarch64", True),
        ("cp311-cp311-linux_aarch64", True),
        ("cp311-cp311-manylinux_2_37_aarch64", False),  # newer than Debian 12
        ("cp312-abi3-manylinux_2_28_aarch64", False),
        ("cp310-cp310-manylinux_2_28_aarch64", False),
        ("cp311-cp311-manylinux_2_28_x86_64", False),
        ("cp311-cp311-musllinux_1_2_aarch64", False),
        ("cp311-cp311-macosx_11_0_arm64", False),
    ],
)
def test_tags_decide_whether_a_wheel_fits(tmp_path: Path, tag: str, fits: bool) -> None:
    wheel = read_wheel(make_wheel(tmp_path, "small", tag=tag))
    assert (wheel.misfits(PI) == []) == fits


def test_machine_code_must_be_for_the_machine_and_be_named(tmp_path: Path) -> None:
    code = {"small/_fast.so": elf(62)}
    wheel = read_wheel(
        make_wheel(tmp_path, "small", tag="cp311-cp311-manylinux_2_28_aarch64", files=code)
    )
    (problem,) = wheel.misfits(PI)
    assert "machine code for x86_64" in problem
    assert wheel.machines == {"x86_64"}
    unnamed = read_wheel(make_wheel(tmp_path / "any", "small", files={"small/_fast.so": elf(183)}))
    (problem,) = unnamed.misfits(PI)
    assert "says that it runs anywhere" in problem


def test_a_wheel_for_another_python_does_not_fit(tmp_path: Path) -> None:
    wheel = read_wheel(make_wheel(tmp_path, "small", metadata="Requires-Python: >=3.12"))
    assert wheel.misfits(PI) == ["small-1.0-py3-none-any.whl needs Python >=3.12"]
    assert wheel.misfits(Target("aarch64", "3.12")) == []


@pytest.mark.parametrize(
    ("metadata", "licence"),
    [
        ("License-Expression: Apache-2.0 OR MIT\nLicense: other", "Apache-2.0 OR MIT"),
        ("License: MIT", "MIT"),
        ("License: UNKNOWN\nClassifier: License :: OSI Approved :: MIT License", "MIT License"),
        (f"License: {'long ' * 40}\nClassifier: License :: OSI Approved :: X", "X"),
        ("Classifier: License :: OSI Approved", ""),
        ("", ""),
    ],
)
def test_the_licence_is_what_the_wheel_says(tmp_path: Path, metadata: str, licence: str) -> None:
    assert read_wheel(make_wheel(tmp_path, "small", metadata=metadata)).licence == licence


def test_what_is_no_wheel_is_refused(tmp_path: Path) -> None:
    (tmp_path / "small-1.0-py3-none-any.whl").write_bytes(b"no archive")
    (tmp_path / "small.whl").write_bytes(b"no version")
    other = make_wheel(tmp_path / "x", "small").rename(tmp_path / "large-2.0-py3-none-any.whl")
    for path in (tmp_path / "small-1.0-py3-none-any.whl", tmp_path / "small.whl"):
        with pytest.raises(WheelInvalid, match="fetch it again"):
            read_wheel(path)
    with pytest.raises(WheelInvalid, match=r"that it is small 1\.0"):
        read_wheel(other)


def test_needs_are_followed_through_extras_and_markers(tmp_path: Path) -> None:
    made = [
        make_wheel(tmp_path, "top", needs=["a[fast]>=1", 'b; extra == "more"', 'c; extra == "x"']),
        make_wheel(tmp_path, "a", "1.5", needs=['d<2; extra == "fast"', 'e; extra == "slow"']),
        make_wheel(tmp_path, "b", needs=['f; python_version < "3.11"', "a>=2"]),
        make_wheel(tmp_path, "d", "2.0", needs=['g; platform_machine == "x86_64"', "top"]),
    ]
    wheels = {wheel.name: wheel for wheel in map(read_wheel, made)}
    needs = needs_of(wheels, Requirement("top[more]"), PI)
    assert {name: [need.name for need in found] for name, found in needs.items()} == {
        "top": ["a", "b"],
        "a": ["d"],
        "b": ["a"],
        "d": ["top"],
    }
    wanted = [need for found in needs.values() for need in found]
    assert sorted(unmet(wheels, wanted)) == [
        "a>=2 is asked for, 1.5 is here",
        "d<2 is asked for, 2.0 is here",
    ]
    older = needs_of(wheels, Requirement("top[more]"), Target("x86_64", "3.10"))
    assert unmet(wheels, older["b"]) == ["f is missing", "a>=2 is asked for, 1.5 is here"]
    assert unmet(wheels, older["d"]) == ["g is missing"]


def test_the_c_library_is_the_newest_that_any_wheel_needs(tmp_path: Path) -> None:
    tags = ["py3-none-any", "cp311-cp311-manylinux_2_17_aarch64.manylinux_2_34_aarch64"]
    wheels = [read_wheel(make_wheel(tmp_path, f"w{n}", tag=tag)) for n, tag in enumerate(tags)]
    assert glibc_needed(wheels, PI) == "2.17"
    newer = make_wheel(tmp_path, "newer", tag="cp36-abi3-manylinux_2_31_aarch64")
    assert glibc_needed([*wheels, read_wheel(newer)], PI) == "2.31"
    assert glibc_needed(wheels[:1], PI) == ""


def test_students_in_a_wheel_are_read_with_all_checks(tmp_path: Path) -> None:
    files = {
        f"models/zoo/{name}/{file}": (zoo_path(name) / file).read_bytes()
        for name in list_zoo()[:2]
        for file in ("manifest.json", "model.onnx")
    }
    found = read_students(make_wheel(tmp_path, "kpstream", files=files))
    assert [(each.name, each.digest) for each in found] == [
        (name, read_artifact(zoo_path(name)).digest) for name in list_zoo()[:2]
    ]
    damaged = {name: content[:-1] for name, content in files.items()}
    with pytest.raises(WheelInvalid, match="holds a student that is damaged"):
        read_students(make_wheel(tmp_path / "damaged", "kpstream", files=damaged))
    with pytest.raises(WheelInvalid, match="holds no student"):
        read_students(make_wheel(tmp_path / "none", "kpstream"))


@pytest.mark.parametrize(("machine", "python"), [("armv7l", "3.11"), ("aarch64", "3.9")])
def test_a_target_without_bundles_is_refused(machine: str, python: str) -> None:
    with pytest.raises(TargetUnknown, match="choose one of"):
        Target(machine, python)


def test_every_target_of_this_machine_knows_the_tags_of_this_python() -> None:
    """The list of platforms agrees with that of `packaging`, as far as this C library reaches."""
    import platform
    import sys

    from packaging.tags import platform_tags

    if platform.machine() not in MACHINES or sys.platform != "linux":
        pytest.skip("this machine is no target of a bundle")
    ours = set(Target(platform.machine(), PYTHONS[-1]).platforms)
    here = {name for name in platform_tags() if not name.startswith("musl")}
    newer = {
        name for name in here if name.startswith("manylinux_2_") and int(name.split("_")[2]) > 36
    }
    assert here - newer <= ours
