"""Bundles of the gateways' software in a real repository."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

import pytest

from deploy.rollout import software
from deploy.rollout.changes import add_software
from deploy.rollout.errors import ReleaseRefused, RepositoryDamaged
from deploy.rollout.metadata import target_path
from deploy.rollout.release import Plan, bundle_target
from deploy.rollout.repository import CentreRepository
from deploy.rollout.software import bundles_of
from deploy.rollout.transfer import export_repository
from tests.fakes.bundles import make_bundle, pack
from tests.fakes.centre import make_centre

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def archive(folder: Path, version: str = "2.0.0", **changes: object) -> Path:
    return pack(make_bundle(folder / f"bundle-{version}", version=version, **changes))


def release(centre: CentreRepository, version: str) -> None:
    bundles = bundles_of(centre.state(), version)
    centre.write_index(
        lambda index: add_software(
            index,
            version=version,
            bundles=bundles,
            plan=Plan(),
            now_s=5,
            gateways=[],
            replace=True,
        )
    )


@pytest.fixture
def centre(tmp_path: Path) -> CentreRepository:
    return make_centre(tmp_path / "centre")


def test_a_bundle_is_a_target_with_its_length_and_digest(
    tmp_path: Path, centre: CentreRepository
) -> None:
    path = archive(tmp_path)
    name = bundle_target("2.0.0", platform.machine(), PYTHON)
    assert centre.publish_bundle(path) == (name, True)
    assert centre.publish_bundle(path) == (name, False)
    assert centre.state().timestamp.version == 2, "the second time signs nothing"
    release(centre, "2.0.0")
    (bundle,) = centre.index().software.bundles
    assert (bundle.target, bundle.size) == (name, path.stat().st_size)
    file = centre.state().targets.targets[name]
    assert target_path(centre.folder.repository, file).read_bytes() == path.read_bytes()


def test_a_version_has_a_bundle_for_each_machine(tmp_path: Path, centre: CentreRepository) -> None:
    for machine in ("x86_64", "aarch64"):
        centre.publish_bundle(archive(tmp_path / machine, machine=machine))
    found = [bundle.target for bundle in bundles_of(centre.state(), "2.0.0")]
    assert found == [bundle_target("2.0.0", machine, PYTHON) for machine in ("aarch64", "x86_64")]
    for version in ("2.0", "2.0.00", "2.0.0-x86_64"):
        with pytest.raises(ReleaseRefused, match="publish-bundle"):
            bundles_of(centre.state(), version)


def test_what_is_no_whole_bundle_is_not_signed(tmp_path: Path, centre: CentreRepository) -> None:
    damaged = make_bundle(tmp_path / "damaged")
    (damaged / "install.sh").write_text("#!/bin/sh\nexit 1\n")
    text = tmp_path / "text.tar"
    text.write_text("no archive")
    changed = archive(tmp_path / "other", wheel=b"another wheel")
    centre.publish_bundle(archive(tmp_path))
    before = centre.state()
    for path, advice in (
        (pack(damaged), "the digest of install.sh differs"),
        (text, "is no archive"),
        (changed, "published with another content"),
        (archive(tmp_path, "2.0.0+local"), "one without"),
    ):
        with pytest.raises(ReleaseRefused, match=advice):
            centre.publish_bundle(path)
    assert centre.state() == before


def test_old_bundles_go_and_the_released_one_stays(
    tmp_path: Path, centre: CentreRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(software, "KEPT_BUNDLES", 2)
    folder = centre.folder.repository / "targets/software"
    for number in range(1, 5):
        centre.publish_bundle(archive(tmp_path, f"{number}.0.0"))
        for path in folder.glob(f"*kpstream-{number}.*"):
            os.utime(path, (number, number))
        if number == 1:
            release(centre, "1.0.0")
    kept = {path.name.partition(".")[2].split("-")[1] for path in folder.iterdir()}
    assert kept == {"1.0.0", "3.0.0", "4.0.0"}
    assert len(centre.state().targets.targets) == 4, "with the index"


def test_a_copy_carries_the_bundle_and_refuses_a_changed_one(
    tmp_path: Path, centre: CentreRepository
) -> None:
    name, _ = centre.publish_bundle(archive(tmp_path))
    file = centre.state().targets.targets[name]
    export_repository(centre.folder, tmp_path / "stick")
    copied = target_path(tmp_path / "stick", file)
    original = target_path(centre.folder.repository, file)
    assert copied.read_bytes() == original.read_bytes()
    original.write_bytes(original.read_bytes()[:-1] + b"x")
    with pytest.raises(RepositoryDamaged, match="length or SHA-256 is not the signed one"):
        export_repository(centre.folder, tmp_path / "another")
    assert not list((tmp_path / "another").rglob("*kpstream-*"))
