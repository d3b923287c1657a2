"""Put a bundle together: the same checkout gives the same bytes."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from deploy.bundle.check import check_bundle
from deploy.bundle.checkout import Checkout
from deploy.bundle.content import (
    EXTRAS,
    REQUIREMENTS_FILE,
    SBOM_FILE,
    faust_kind,
    requirements_text,
    wanted_package,
)
from deploy.bundle.errors import BundleError, CheckoutInvalid
from deploy.bundle.fetch import fetch_wheels
from deploy.bundle.sbom import bundle_sbom
from deploy.bundle.target import Target
from deploy.bundle.wheels import Wheel, glibc_needed, read_students
from deploy.gateway.bundle import BUNDLE_FILE

__all__ = ["build_bundle", "seal_content", "write_tar"]

_INSTALLER = "deploy/gateway/install.sh"
_COPIED = (("install.sh", _INSTALLER), ("LICENSE", "LICENSE"))


def build_bundle(
    folder: Path,
    target: Target,
    out: Path,
    report: Callable[[str], None],
    *,
    own: Sequence[Path] = (),
) -> Path:
    """Make the bundle of a target, and check it.

    Args:
        folder: A clone of kpstream.
        target: The machine and its Python.
        out: Folder of the archive; an earlier one of the same name is replaced.
        report: Shows a line to a person.
        own: Wheels to take instead of those that would be fetched or built.

    Returns:
        The archive.

    Raises:
        BundleError: It cannot be made, or its check found a problem.
        OSError: A file cannot be read or written.
    """
    checkout = Checkout(folder)
    with TemporaryDirectory(prefix="kpstream-bundle-") as work:
        content = Path(work, "content")
        wheels = fetch_wheels(checkout, target, content / "wheels", report, own)
        for name, source in _COPIED:
            if not (checkout.folder / source).is_file():
                msg = f"{checkout.folder} has no {source}: use a whole clone"
                raise CheckoutInvalid(msg)
            shutil.copyfile(checkout.folder / source, content / name)
        name = seal_content(
            content, target, wheels, revision=checkout.revision, time_s=checkout.time_s
        )
        out.mkdir(parents=True, exist_ok=True)
        made = Path(work, f"{name}.tar")
        write_tar(content, made, top=name, time_s=checkout.time_s)
        report("checking the bundle")
        checked = check_bundle(made)
        if checked.problems:
            lines = "\n".join(checked.problems)
            msg = f"the bundle is not usable:\n{lines}"
            raise BundleError(msg)
        archive = out / made.name
        partial = archive.with_suffix(".partial")
        shutil.copyfile(made, partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(archive)
    return archive


def write_tar(folder: Path, archive: Path, *, top: str, time_s: int) -> None:
    """Pack a folder: `bundle.json` first, then all files by name, with one time and one owner."""
    names = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )
    names.sort(key=lambda name: name != BUNDLE_FILE)
    with tarfile.open(archive, "w", format=tarfile.GNU_FORMAT) as file:
        for name in names:
            content = (folder / name).read_bytes()
            member = tarfile.TarInfo(f"{top}/{name}")
            member.size, member.mtime = len(content), time_s
            member.mode = 0o755 if name.endswith(".sh") else 0o644
            file.addfile(member, io.BytesIO(content))


def seal_content(
    content: Path, target: Target, wheels: Sequence[Wheel], *, revision: str, time_s: int
) -> str:
    """Write what a bundle says of itself beside its other files: nothing may change afterwards.

    Args:
        content: Folder of the files, with `wheels/`.
        target: What the bundle is made for.
        wheels: The wheels in it.
        revision: Revision of the checkout.
        time_s: Its time, epoch seconds.

    Returns:
        The name of the bundle.

    Raises:
        BundleError: The wheel of kpstream is invalid, or the bill does not match its schema.
    """
    (own,) = (wheel for wheel in wheels if wheel.name == "kpstream")
    students = read_students(own.path)
    (content / SBOM_FILE).write_text(
        bundle_sbom(wheels, students, wanted_package(), target, time_s)
    )
    (content / REQUIREMENTS_FILE).write_text(requirements_text(wheels))
    files = {
        path.relative_to(content).as_posix(): sha256(path.read_bytes()).hexdigest()
        for path in sorted(content.rglob("*"))
        if path.is_file()
    }
    about: Mapping[str, Any] = {
        "format": 1,
        "version": str(own.version),
        "machine": target.machine,
        "python": target.python,
        "glibc": glibc_needed(wheels, target),
        "extras": list(EXTRAS),
        "faust": faust_kind(wheels),
        "revision": revision,
        "students": [
            {"name": each.name, "version": each.version, "digest": each.digest} for each in students
        ],
        "files": files,
    }
    (content / BUNDLE_FILE).write_text(json.dumps(about, indent=2) + "\n")
    return target.bundle_name(str(own.version))
