"""Check a bundle as a stranger would: nothing that it says of itself is believed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from deploy.bundle.content import (
    EXTRAS,
    REQUIREMENTS_FILE,
    SBOM_FILE,
    faust_kind,
    requirements_text,
    wanted_package,
)
from deploy.bundle.errors import BundleError, TargetUnknown, WheelInvalid
from deploy.bundle.target import GLIBC, Target
from deploy.bundle.wheels import (
    Wheel,
    glibc_needed,
    needs_of,
    read_students,
    read_wheel,
    unmet,
)
from deploy.gateway.bundle import BUNDLE_FILE, Bundle, open_bundle
from deploy.gateway.errors import SourceInvalid

__all__ = ["CheckedBundle", "check_bundle"]


@dataclass(frozen=True, slots=True)
class CheckedBundle:
    """What the check of a bundle found.

    Attributes:
        problems: What is wrong, one line each; empty: the bundle is sound.
        notes: What a person should know of a sound bundle.
    """

    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()


def check_bundle(source: Path) -> CheckedBundle:
    """Check the archive of a bundle, or the folder of an unpacked one.

    Every file has the digest of `bundle.json`, and there is no other file. Every wheel fits the
    machine by its tags and by its machine code. Every requirement is met inside, and no wheel is
    without need. The file for pip, the bill of materials and `bundle.json` say of the wheels and
    students what they are.

    Raises:
        OSError: A file cannot be read or written.
    """
    with TemporaryDirectory(prefix="kpstream-bundle-") as folder:
        try:
            bundle = open_bundle(source, Path(folder, "copy"))
            about = json.loads((bundle.folder / BUNDLE_FILE).read_bytes())
            target = Target(bundle.machine, bundle.python)
            wheels = [read_wheel(path) for path in bundle.wheels]
        except (SourceInvalid, TargetUnknown, WheelInvalid) as exc:
            return CheckedBundle((str(exc),))
        problems = [
            *_name_problems(source, bundle, target),
            *_wheel_problems(wheels, target),
            *_said_problems(bundle, about, wheels, target),
        ]
        bill_problems, note = _bill_problems(bundle.folder / SBOM_FILE, wheels)
        problems += bill_problems
        kind, glibc = faust_kind(wheels), glibc_needed(wheels, target)
    notes = [
        f"kpstream {bundle.version} for {target.machine}, Python {target.python}, "
        f"glibc {glibc or 'any'} or later: {len(wheels)} wheels",
        f"faust-streaming is {kind}" + (": without its compiled parts" if kind == "pure" else ""),
    ]
    return CheckedBundle(tuple(problems), (*notes, *note))


def _name_problems(source: Path, bundle: Bundle, target: Target) -> Iterator[str]:
    name = target.bundle_name(bundle.version)
    if source.is_file() and source.name != f"{name}.tar":
        yield f"the archive is {source.name}, and its content is {name}: name it so"


def _wheel_problems(wheels: Sequence[Wheel], target: Target) -> Iterator[str]:
    """Yield what does not fit the target, what is missing, and what nothing needs."""
    for wheel in wheels:
        yield from wheel.misfits(target)
    by_name = {wheel.name: wheel for wheel in wheels}
    for name in sorted({each.name for each in wheels if each is not by_name[each.name]}):
        yield f"there are two wheels of {name}"
    if "pip" not in by_name:
        yield "there is no wheel of pip"
    needs = needs_of(by_name, wanted_package(), target)
    for name in sorted(needs):
        for missing in unmet(by_name, needs[name]):
            yield f"{name} needs another package: {missing}"
    for name in sorted(by_name.keys() - needs.keys() - {"pip"}):
        yield f"nothing needs the wheel of {name}"


def _said_problems(
    bundle: Bundle, about: dict[str, Any], wheels: Sequence[Wheel], target: Target
) -> Iterator[str]:
    """Yield where `bundle.json` and the file for pip say something else than what is there."""
    found: dict[str, object] = {
        "extras": list(EXTRAS),
        "faust": faust_kind(wheels),
        "glibc": glibc_needed(wheels, target),
    }
    newest = tuple(map(int, str(found["glibc"]).split("."))) if found["glibc"] else (0,)
    if newest > GLIBC:
        yield f"the wheels need glibc {found['glibc']}, newer than {'.'.join(map(str, GLIBC))}"
    for wheel in (each for each in wheels if each.name == "kpstream"):
        if str(wheel.version) != bundle.version:
            yield f"{BUNDLE_FILE} says version {bundle.version}, and the wheel is {wheel.version}"
        try:
            found["students"] = [
                {"name": each.name, "version": each.version, "digest": each.digest}
                for each in read_students(wheel.path)
            ]
        except WheelInvalid as exc:
            yield str(exc)
    for name, value in found.items():
        if about.get(name) != value:
            yield f"{BUNDLE_FILE} says {name} {about.get(name)!r}, and the wheels say {value!r}"
    listed = bundle.folder / REQUIREMENTS_FILE
    if not listed.is_file() or listed.read_text() != requirements_text(wheels):
        yield f"{REQUIREMENTS_FILE} does not list exactly the wheels and their digests"


def _bill_problems(path: Path, wheels: Sequence[Wheel]) -> tuple[list[str], list[str]]:
    """Compare the bill of materials with the wheels; returns problems and notes."""
    try:
        text = path.read_text()
        bill = json.loads(text)
        listed = {
            component["purl"]: component["hashes"][0]["content"]
            for component in (bill["metadata"]["component"], *bill["components"])
            if "purl" in component
        }
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return [f"{SBOM_FILE} is missing or damaged"], []
    problems = []
    if listed != {f"pkg:pypi/{wheel.name}@{wheel.version}": wheel.sha256 for wheel in wheels}:
        problems.append(f"{SBOM_FILE} does not list exactly the wheels and their digests")
    try:
        from deploy.bundle.sbom import schema_problem

        wrong = schema_problem(text)
    except (ImportError, BundleError):
        return problems, [f"{SBOM_FILE}: its schema was not checked, the extra [bundle] is missing"]
    if wrong:
        problems.append(f"{SBOM_FILE} does not match the schema of CycloneDX 1.6: {wrong[:300]}")
    return problems, []
