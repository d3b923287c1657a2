"""A bundle: all that a gateway's software needs in one archive, with the digest of each file.

```
kpstream-0.3.0-aarch64-py311.tar
├── bundle.json       {"format": 1, "version": "0.3.0", "machine": "aarch64", "python": "3.11",
│                      "files": {"install.sh": "<sha256>", "wheels/numpy-....whl": "<sha256>", ...}}
├── install.sh
├── wheels/           every wheel that is installed, kpstream's among them, and that of pip
└── students/         optional: NAME/manifest.json and NAME/model.onnx
```

The files may lie in one top folder. `bundle.json` may say more; what it says of files is complete:
a file that it does not name is refused like one whose digest differs. The digest of `bundle.json`
is the digest of the bundle.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import shutil
import stat
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from deploy.gateway.errors import SourceInvalid

__all__ = ["BUNDLE_FILE", "Bundle", "open_bundle", "verify_bundle"]

BUNDLE_FILE = "bundle.json"
_FORMAT = 1
_MOST_BYTES = 2 * 1024**3
_MOST_FILES = 2000
_MOST_INDEX_BYTES = 1_000_000
_CHUNK = 1024**2
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+!_-]{0,63}")
_AGAIN = "copy the bundle again"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle.

    Attributes:
        folder: Where its files are.
        version: Version of kpstream in it.
        machine: Architecture as `uname -m` names it.
        python: Version of Python as `3.11`.
        digest: SHA-256 of its `bundle.json`.
    """

    folder: Path
    version: str
    machine: str
    python: str
    digest: str

    @property
    def wheels(self) -> list[Path]:
        """Its wheels, sorted by name."""
        return sorted((self.folder / "wheels").glob("*.whl"))

    @property
    def students(self) -> list[Path]:
        """Folders of its students, sorted by name."""
        return sorted(path.parent for path in self.folder.glob("students/*/manifest.json"))

    def check_machine(self, machine: str | None = None, python: str | None = None) -> None:
        """Check that this machine and its Python can run the bundle.

        Args:
            machine: Architecture; None for that of this machine.
            python: Version of Python; None for the one that runs.

        Raises:
            SourceInvalid: They cannot; the message names the bundle to take.
        """
        machine = machine or platform.machine()
        python = python or f"{sys.version_info.major}.{sys.version_info.minor}"
        if machine != self.machine:
            msg = (
                f"the bundle is for {self.machine}, and this machine is {machine}: take the "
                f"bundle whose name has {machine}"
            )
            raise SourceInvalid(msg)
        if python != self.python:
            msg = (
                f"the bundle is for Python {self.python}, and this is Python {python}: run the "
                f"installer as `PYTHON=python{self.python} ./install.sh`, or take the bundle whose "
                f"name has py{python.replace('.', '')}"
            )
            raise SourceInvalid(msg)


def open_bundle(source: Path, folder: Path) -> Bundle:
    """Copy a bundle to a folder of one's own, and verify the copy.

    Args:
        source: The archive, or the folder of an unpacked one.
        folder: Where the copy goes; it must not exist.

    Raises:
        SourceInvalid: It is no bundle, or it is damaged.
        OSError: A file cannot be read or written.
    """
    if source.is_dir():
        _copy_folder(source, folder)
    else:
        _unpack(source, folder)
    return verify_bundle(_top(folder))


def verify_bundle(folder: Path) -> Bundle:
    """Check every file of an unpacked bundle.

    Raises:
        SourceInvalid: A file is missing, differs, or is not named in `bundle.json`.
    """
    raw = _read_index(folder / BUNDLE_FILE)
    about = _parse(raw)
    files = about["files"]
    found = {path.relative_to(folder).as_posix(): path for path in _walk(folder)}
    found.pop(BUNDLE_FILE, None)
    missing, unknown = sorted(files.keys() - found), sorted(found.keys() - files)
    if missing:
        msg = f"the bundle lacks {_listed(missing)}: {_AGAIN}"
        raise SourceInvalid(msg)
    if unknown:
        msg = f"{BUNDLE_FILE} does not name {_listed(unknown)}: {_AGAIN}"
        raise SourceInvalid(msg)
    differing = [name for name, digest in files.items() if _sha256(found[name]) != digest]
    if differing:
        msg = f"the digest of {_listed(sorted(differing))} differs: {_AGAIN}"
        raise SourceInvalid(msg)
    bundle = Bundle(
        folder, about["version"], about["machine"], about["python"], hashlib.sha256(raw).hexdigest()
    )
    if not any(wheel.name.startswith("kpstream-") for wheel in bundle.wheels):
        msg = "the bundle has no wheel of kpstream: make it again"
        raise SourceInvalid(msg)
    return bundle


def _read_index(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.lstat().st_mode) or path.stat().st_size > _MOST_INDEX_BYTES:
            msg = f"{BUNDLE_FILE} is no plain file of at most {_MOST_INDEX_BYTES} bytes: {_AGAIN}"
            raise SourceInvalid(msg)
        return path.read_bytes()
    except FileNotFoundError:
        msg = f"there is no {BUNDLE_FILE}, so this is no bundle: name an archive kpstream-*.tar"
        raise SourceInvalid(msg) from None


def _parse(raw: bytes) -> dict[str, Any]:
    try:
        about = json.loads(raw)
    except (ValueError, RecursionError):
        about = None
    if not isinstance(about, dict):
        msg = f"{BUNDLE_FILE} is damaged: {_AGAIN}"
        raise SourceInvalid(msg)
    if about.get("format") != _FORMAT:
        msg = (
            f"{BUNDLE_FILE} has the format {about.get('format')!r}, and this installer knows "
            f"{_FORMAT}: use the install.sh of the bundle"
        )
        raise SourceInvalid(msg)
    words = {name: about.get(name) for name in ("version", "machine", "python")}
    wrong = [name for name, word in words.items() if not _is_word(word)]
    files = about.get("files")
    if not isinstance(files, dict) or not all(map(_is_entry, files.items())):
        wrong.append("files")
    if wrong:
        msg = f"{BUNDLE_FILE} has an invalid {' and '.join(wrong)}: make the bundle again"
        raise SourceInvalid(msg)
    return about


def _is_word(word: object) -> bool:
    return isinstance(word, str) and _VERSION.fullmatch(word) is not None


def _is_entry(entry: tuple[object, object]) -> bool:
    name, digest = entry
    return (
        isinstance(name, str)
        and _is_inside(name)
        and isinstance(digest, str)
        and re.fullmatch("[0-9a-f]{64}", digest) is not None
    )


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def _top(folder: Path) -> Path:
    """The folder of `bundle.json`: this one, or the single folder in it."""
    inside = list(folder.iterdir())
    if len(inside) == 1 and inside[0].is_dir() and not inside[0].is_symlink():
        return inside[0]
    return folder


def _copy_folder(source: Path, folder: Path) -> None:
    size = 0
    for number, path in enumerate(_walk(source)):
        size += path.stat().st_size
        _check_bounds(size, number + 1)
        target = folder / path.relative_to(source)
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        shutil.copyfile(path, target, follow_symlinks=False)
    folder.mkdir(mode=0o755, exist_ok=True)


def _walk(folder: Path) -> Iterator[Path]:
    """Yield every file below a folder; anything else than files and folders is refused."""
    for path in sorted(folder.iterdir()):
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            yield from _walk(path)
        elif stat.S_ISREG(mode):
            yield path
        else:
            msg = f"{path.name} in the bundle is neither a file nor a folder: {_AGAIN}"
            raise SourceInvalid(msg)


def _unpack(source: Path, folder: Path) -> None:
    folder.mkdir(mode=0o755)
    seen: set[str] = set()
    size = 0
    try:
        with tarfile.open(source) as archive:
            for member in archive:
                if member.isdir():
                    continue
                if not member.isreg() or not _is_inside(member.name) or member.name in seen:
                    msg = f"{member.name!r} has no place in a bundle: {_AGAIN}"
                    raise SourceInvalid(msg)
                seen.add(member.name)
                size += member.size
                _check_bounds(size, len(seen))
                target = folder / member.name
                target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                content = archive.extractfile(member)
                with target.open("xb") as file:
                    shutil.copyfileobj(content, file, _CHUNK)  # type: ignore[arg-type]
    except (tarfile.TarError, EOFError) as exc:
        msg = f"{source} is no archive, or it is cut off: {_AGAIN}"
        raise SourceInvalid(msg) from exc
    except FileExistsError as exc:
        msg = f"two files of the archive have one name: {_AGAIN}"
        raise SourceInvalid(msg) from exc


def _check_bounds(size: int, files: int) -> None:
    if size > _MOST_BYTES or files > _MOST_FILES:
        msg = f"the bundle has more than {_MOST_BYTES} bytes or {_MOST_FILES} files: {_AGAIN}"
        raise SourceInvalid(msg)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
