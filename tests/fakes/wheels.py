"""Small wheels that say what a test wants, and a whole bundle of them."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.bundle.build import seal_content, write_tar
from deploy.bundle.target import Target
from deploy.bundle.wheels import read_wheel
from models.zoo import zoo_path

__all__ = ["elf", "make_bundle_content", "make_wheel", "pack_content"]

TIME_S = 1_750_000_000


def elf(machine: int) -> bytes:
    """The head of a file of machine code: 62 is x86-64, 183 is aarch64."""
    return b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00" + machine.to_bytes(2, "little")


def make_wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    *,
    tag: str = "py3-none-any",
    needs: Sequence[str] = (),
    metadata: str = "",
    files: Mapping[str, bytes] | None = None,
) -> Path:
    """Write a wheel.

    Args:
        folder: Where to.
        name: Name of the package.
        version: Its version.
        tag: Tags in the file's name.
        needs: Lines `Requires-Dist`.
        metadata: More lines of the metadata.
        files: Files of the package.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = name.replace("-", "_")
    path = folder / f"{written}-{version}-{tag}.whl"
    lines = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {need}" for need in needs]
    if metadata:
        lines.append(metadata)
    with zipfile.ZipFile(path, "w") as archive:
        for file, content in (files or {}).items():
            archive.writestr(zipfile.ZipInfo(file), content)
        entry = zipfile.ZipInfo(f"{written}-{version}.dist-info/METADATA")
        archive.writestr(entry, "\n".join(lines) + "\n\n")
    return path


def make_bundle_content(
    folder: Path, target: Target, *, without: str = "", more: Sequence[str] = ()
) -> str:
    """Write the files of a small bundle whose check finds nothing; returns its name.

    Args:
        folder: Where to.
        target: What it is for.
        without: Name of a package that is left out.
        more: Requirements of kpstream in addition.
    """
    wheels = folder / "wheels"
    student = {
        f"models/zoo/har-waist/{file}": (zoo_path("har-waist") / file).read_bytes()
        for file in ("manifest.json", "model.onnx")
    }
    needs = ["numpy>=2", 'faust-streaming<0.16; extra == "gateway"', 'tuf; extra == "rollout"']
    number = {"x86_64": 62, "aarch64": 183}[target.machine]
    tag = f"cp{target.python.replace('.', '')}"
    make_wheel(wheels, "kpstream", "1.2.3", needs=[*needs, *more], files=student)
    make_wheel(wheels, "faust-streaming", "0.15.3", metadata="License-Expression: BSD-3-Clause")
    make_wheel(wheels, "tuf", "7.0.1", metadata="License: MIT")
    make_wheel(wheels, "pip", "26.3")
    make_wheel(
        wheels,
        "numpy",
        "2.1",
        tag=f"{tag}-{tag}-manylinux_2_17_{target.machine}.manylinux_2_28_{target.machine}",
        files={"numpy/core.so": elf(number)},
    )
    for path in wheels.glob(f"{without.replace('-', '_')}-*.whl") if without else ():
        path.unlink()
    (folder / "install.sh").write_text("#!/bin/sh\n")
    found = [read_wheel(path) for path in sorted(wheels.glob("*.whl"))]
    return seal_content(folder, target, found, revision="0" * 40, time_s=TIME_S)


def pack_content(folder: Path, name: str) -> Path:
    """Pack the files of a bundle beside their folder; returns the archive."""
    archive = folder.parent / f"{name}.tar"
    write_tar(folder, archive, top=name, time_s=TIME_S)
    return archive
