"""What a wheel says of itself, and what is in it."""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from pathlib import Path
from tempfile import TemporaryDirectory

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from deploy.bundle.errors import WheelInvalid
from deploy.bundle.target import Target
from ingest.secrettext import error_text
from models.artifact import read_artifact
from models.errors import ModelError

__all__ = [
    "Student",
    "Wheel",
    "glibc_needed",
    "needs_of",
    "read_students",
    "read_wheel",
    "unmet",
]

# e_machine of an ELF file (System V ABI): which processor the machine code is for.
_ELF_MACHINES = {62: "x86_64", 183: "aarch64"}
_LONGEST_LICENCE = 100
_STUDENT = r"models/zoo/[^/]+/(manifest\.json|model\.onnx)"


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel.

    Attributes:
        path: The file.
        name: Name of the package, normalized.
        version: Its version.
        tags: Tags in the file's name.
        python: Versions of Python that it runs on.
        needs: What it requires.
        licence: Its licence as its metadata names it; empty: it does not.
        machines: Machines that its machine code is for; empty: it has none.
        sha256: Digest of the file.
    """

    path: Path
    name: str
    version: Version
    tags: frozenset[Tag]
    python: SpecifierSet
    needs: tuple[Requirement, ...]
    licence: str
    machines: frozenset[str]
    sha256: str

    def misfits(self, target: Target) -> list[str]:
        """Reasons why it does not run on a target, and where its name is wrong; empty: it fits."""
        problems = []
        name = self.path.name
        if not self.tags & target.tags:
            problems.append(f"{name} does not fit {target.machine} with Python {target.python}")
        if not self.python.contains(f"{target.python}.99", prereleases=True):
            problems.append(f"{name} needs Python {self.python}")
        if strange := self.machines - {target.machine}:
            problems.append(f"{name} holds machine code for {', '.join(sorted(strange))}")
        if self.machines and any(tag.platform == "any" for tag in self.tags):
            problems.append(f"{name} holds machine code, but its name says that it runs anywhere")
        return problems


@dataclass(frozen=True, slots=True)
class Student:
    """A student in the wheel of kpstream.

    Attributes:
        name: Its name.
        version: Its version.
        digest: SHA-256 of its manifest, which names that of its graph.
    """

    name: str
    version: int
    digest: str


def read_wheel(path: Path) -> Wheel:
    """Read a wheel.

    Raises:
        WheelInvalid: It is no wheel, or its name and its metadata differ.
        OSError: It cannot be read.
    """
    try:
        name, version, _, tags = parse_wheel_filename(path.name)
        with zipfile.ZipFile(path) as archive:
            metadata = _metadata(archive)
            machines = frozenset(_machines(archive))
        needs = tuple(map(Requirement, metadata.get_all("Requires-Dist", [])))
        python = SpecifierSet(metadata.get("Requires-Python", ""))
    except (
        InvalidWheelFilename,
        InvalidRequirement,
        InvalidSpecifier,
        zipfile.BadZipFile,
        KeyError,
    ) as exc:
        msg = f"{path.name} is no wheel that can be read ({type(exc).__name__}): fetch it again"
        raise WheelInvalid(msg) from exc
    said = (canonicalize_name(metadata.get("Name", "")), metadata.get("Version", ""))
    if said != (name, str(version)):
        msg = f"{path.name} says in its metadata that it is {said[0]} {said[1]}: do not use it"
        raise WheelInvalid(msg)
    return Wheel(
        path=path,
        name=name,
        version=version,
        tags=tags,
        python=python,
        needs=needs,
        licence=_licence(metadata),
        machines=machines,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )


def needs_of(
    wheels: Mapping[str, Wheel], wanted: Requirement, target: Target
) -> dict[str, list[Requirement]]:
    """What a package and all that it needs require on a target, by the name of the package.

    Args:
        wheels: Wheels by name. What a missing one requires is not known.
        wanted: The package, with its extras.
        target: The machine and its Python.
    """
    found: dict[str, list[Requirement]] = {}
    seen: set[tuple[str, str]] = set()
    open_needs = [wanted]
    while open_needs:
        need = open_needs.pop()
        name = canonicalize_name(need.name)
        for extra in ("", *sorted(need.extras)):
            if (name, extra) in seen or name not in wheels:
                continue
            seen.add((name, extra))
            concerned = [each for each in wheels[name].needs if target.concerns(each.marker, extra)]
            known = found.setdefault(name, [])
            new = [each for each in concerned if each not in known]
            known += new
            open_needs += new
    return found


def unmet(wheels: Mapping[str, Wheel], needs: Iterable[Requirement]) -> list[str]:
    """Requirements that no wheel meets, each with what is there instead."""
    missing = []
    for need in needs:
        wheel = wheels.get(canonicalize_name(need.name))
        if wheel is None:
            missing.append(f"{need.name}{need.specifier} is missing")
        elif not need.specifier.contains(wheel.version, prereleases=True):
            missing.append(f"{need.name}{need.specifier} is asked for, {wheel.version} is here")
    return missing


def read_students(wheel: Path) -> list[Student]:
    """The shipped students in the wheel of kpstream, checked, sorted by name.

    Raises:
        WheelInvalid: A student is damaged, or there is none.
    """
    with TemporaryDirectory(prefix="kpstream-") as folder, zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if re.fullmatch(_STUDENT, name)]
        archive.extractall(folder, names)
        try:
            found = [
                read_artifact(Path(folder, name).parent)
                for name in sorted(names)
                if name.endswith("/manifest.json")
            ]
        except ModelError as exc:
            msg = f"{wheel.name} holds a student that is damaged: {error_text(exc)}"
            raise WheelInvalid(msg) from exc
    if not found:
        msg = f"{wheel.name} holds no student: build it from a whole checkout"
        raise WheelInvalid(msg)
    found.sort(key=lambda student: student.manifest.name)
    return [Student(each.manifest.name, each.manifest.version, each.digest) for each in found]


def glibc_needed(wheels: Iterable[Wheel], target: Target) -> str:
    """The oldest C library on which all wheels run, as `2.28`; empty if none needs one."""
    newest = (0, 0)
    for wheel in wheels:
        names = {tag.platform for tag in wheel.tags & target.tags}
        numbers = [_glibc(platform) for platform in names if platform.startswith("manylinux_")]
        newest = max(newest, min(numbers, default=(0, 0)))
    return f"{newest[0]}.{newest[1]}" if any(newest) else ""


def _glibc(platform: str) -> tuple[int, int]:
    _, major, minor, *_ = platform.split("_")
    return int(major), int(minor)


def _metadata(archive: zipfile.ZipFile) -> Message:
    names = [
        name
        for name in archive.namelist()
        if name.endswith(".dist-info/METADATA") and name.count("/") == 1
    ]
    if len(names) != 1:
        msg = "METADATA"
        raise KeyError(msg)
    return BytesParser().parsebytes(archive.read(names[0]))


def _machines(archive: zipfile.ZipFile) -> Iterable[str]:
    """Yield the machine of each file of machine code in a wheel."""
    for entry in archive.infolist():
        with archive.open(entry) as file:
            head = file.read(20)
        if head[:4] == b"\x7fELF" and len(head) == 20:
            order = "little" if head[5] == 1 else "big"
            number = int.from_bytes(head[18:20], order)  # type: ignore[arg-type]
            yield _ELF_MACHINES.get(number, f"machine {number}")


def _licence(metadata: Message) -> str:
    """The licence: an SPDX expression, else a short name, else what the classifiers say."""
    expression = metadata.get("License-Expression")
    if expression:
        return str(expression)
    named = str(metadata.get("License", "")).strip()
    if named and len(named) <= _LONGEST_LICENCE and "\n" not in named and named != "UNKNOWN":
        return named
    classified = [
        line.rpartition(" :: ")[2]
        for line in metadata.get_all("Classifier", [])
        if line.startswith("License :: ") and line.count(" :: ") > 1
    ]
    return "; ".join(classified)
