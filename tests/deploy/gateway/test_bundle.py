"""A bundle is verified file by file; what is damaged, foreign or too much is refused by name."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.gateway.bundle import open_bundle
from deploy.gateway.errors import SourceInvalid
from tests.fakes.bundles import make_bundle, pack, seal


def test_a_folder_and_an_archive_open_alike(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / "b", version="1.2.3")
    from_folder = open_bundle(folder, tmp_path / "copy-1")
    from_archive = open_bundle(pack(folder), tmp_path / "copy-2")
    assert from_folder.digest == from_archive.digest
    assert from_archive.version == "1.2.3"
    assert [wheel.name for wheel in from_archive.wheels] == ["kpstream-1.2.3-py3-none-any.whl"]
    assert [path.name for path in from_archive.students] == ["pump"]


def test_an_archive_with_one_top_folder_opens(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / "b")
    bundle = open_bundle(pack(folder, top="kpstream-1.0.0/"), tmp_path / "copy")
    assert bundle.folder == tmp_path / "copy" / "kpstream-1.0.0"


def change_content(folder: Path) -> None:
    (folder / "install.sh").write_text("#!/bin/sh\nexit 0\n")


def add_file(folder: Path) -> None:
    (folder / "wheels" / "more.whl").write_bytes(b"x")


def add_link(folder: Path) -> None:
    (folder / "wheels" / "link.whl").symlink_to(folder / "install.sh")


def edit(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "bundle.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "changed": (change_content, "the digest of install.sh differs"),
    "missing": (lambda folder: (folder / "install.sh").unlink(), "the bundle lacks install.sh"),
    "more": (add_file, "does not name wheels/more.whl"),
    "link": (add_link, "neither a file nor a folder"),
    "no index": (lambda folder: (folder / "bundle.json").unlink(), "this is no bundle"),
    "cut index": (lambda folder: (folder / "bundle.json").write_text('{"form'), "is damaged"),
    "deep index": (lambda folder: (folder / "bundle.json").write_text("[" * 9000), "is damaged"),
    "list": (lambda folder: (folder / "bundle.json").write_text("[]"), "is damaged"),
    "format": (edit(format=2), "has the format 2"),
    "version": (edit(version="../../etc"), "invalid version"),
    "outside": (edit(files={"../x": "0" * 64}), "invalid files"),
    "no wheel": (
        lambda folder: ((folder / "wheels/kpstream-1.0.0-py3-none-any.whl").unlink(), seal(folder)),
        "no wheel of kpstream",
    ),
}


@pytest.mark.parametrize(("damage", "said"), DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("packed", [False, True], ids=["folder", "archive"])
def test_a_damaged_bundle_is_refused(
    tmp_path: Path, damage: Callable[[Path], object], said: str, packed: bool
) -> None:
    folder = make_bundle(tmp_path / "b")
    damage(folder)
    if packed and any(path.is_symlink() for path in folder.rglob("*")):
        said = "has no place in a bundle"
    with pytest.raises(SourceInvalid, match=said):
        open_bundle(pack(folder) if packed else folder, tmp_path / "copy")


@pytest.mark.parametrize("name", ["/etc/passwd", "../../outside", "a/../../outside"])
def test_an_archive_cannot_write_outside_its_folder(tmp_path: Path, name: str) -> None:
    archive = tmp_path / "evil.tar"
    with tarfile.open(archive, "w") as file:
        member = tarfile.TarInfo(name)
        member.size = 1
        file.addfile(member, io.BytesIO(b"x"))
    with pytest.raises(SourceInvalid, match="has no place in a bundle"):
        open_bundle(archive, tmp_path / "copy")
    assert not (tmp_path / "outside").exists()


def test_an_archive_with_a_name_twice_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "twice.tar"
    with tarfile.open(archive, "w") as file:
        for content in (b"x", b"y"):
            member = tarfile.TarInfo("wheels/a.whl")
            member.size = 1
            file.addfile(member, io.BytesIO(content))
    with pytest.raises(SourceInvalid, match="has no place in a bundle"):
        open_bundle(archive, tmp_path / "copy")


@pytest.mark.parametrize("share", [0, 0.3, 0.9])
def test_a_cut_archive_is_refused(tmp_path: Path, share: float) -> None:
    archive = pack(make_bundle(tmp_path / "b", wheel=b"w" * 100_000))
    raw = archive.read_bytes()
    archive.write_bytes(raw[: int(len(raw) * share)])
    with pytest.raises(SourceInvalid):
        open_bundle(archive, tmp_path / "copy")


def test_another_machine_or_python_is_told_which_bundle_to_take(tmp_path: Path) -> None:
    bundle = open_bundle(make_bundle(tmp_path / "b", machine="aarch64"), tmp_path / "copy")
    with pytest.raises(SourceInvalid, match="whose name has x86_64"):
        bundle.check_machine("x86_64", bundle.python)
    with pytest.raises(SourceInvalid, match="whose name has py39"):
        bundle.check_machine("aarch64", "3.9")
    bundle.check_machine("aarch64", bundle.python)
