"""Bundles without real wheels: their files, their index, their archive."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
import tarfile
from pathlib import Path

__all__ = ["make_bundle", "pack", "seal"]


def make_bundle(
    folder: Path,
    *,
    version: str = "1.0.0",
    machine: str | None = None,
    wheel: bytes = b"a wheel",
) -> Path:
    """Write an unpacked bundle for this machine; returns its folder."""
    files = {
        "install.sh": b"#!/bin/sh\n",
        f"wheels/kpstream-{version}-py3-none-any.whl": wheel,
        "students/pump/manifest.json": b"{}",
        "students/pump/model.onnx": b"a graph",
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    about = {"version": version, "machine": machine or platform.machine(), "python": python}
    (folder / "bundle.json").write_text(json.dumps({"format": 1, **about}))
    seal(folder)
    return folder


def seal(folder: Path) -> None:
    """Write the digests of all files into `bundle.json`."""
    index = folder / "bundle.json"
    files = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path != index
    }
    index.write_text(json.dumps(json.loads(index.read_text()) | {"files": files}))


def pack(folder: Path, top: str = "") -> Path:
    """Pack a folder as it is; returns the archive."""
    archive = folder.with_suffix(".tar")
    with tarfile.open(archive, "w") as file:
        for path in sorted(folder.rglob("*")):
            if path.is_file() or path.is_symlink():
                file.add(path, f"{top}{path.relative_to(folder).as_posix()}")
    return archive
