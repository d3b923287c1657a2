"""The bill of materials of a bundle, and of a container that is made from one (CycloneDX, JSON).

It names every wheel with its digest, its licence as the wheel itself says it, and what it needs;
every student; and for a container the image below. Two bundles with the same bytes have the same
bill: its serial number follows from the digests, its time is that of the revision.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.exception import MissingOptionalDependencyException
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.bundle.errors import BundleError
from deploy.bundle.target import Target
from deploy.bundle.wheels import Student, Wheel, needs_of
from ingest.extras import install_command

__all__ = ["bundle_sbom", "container_sbom", "schema_problem"]


def bundle_sbom(
    wheels: Sequence[Wheel],
    students: Sequence[Student],
    wanted: Requirement,
    target: Target,
    time_s: int,
) -> str:
    """The bill of materials of a bundle.

    Args:
        wheels: Its wheels, that of kpstream among them.
        students: Students in the wheel of kpstream.
        wanted: kpstream with its extras.
        target: What the bundle is made for.
        time_s: Time of the revision, epoch seconds.

    Raises:
        BundleError: It does not match the schema of CycloneDX.
    """
    by_name = {wheel.name: wheel for wheel in wheels}
    components = {wheel.name: _component(wheel) for wheel in wheels}
    models = [_student(student) for student in students]
    top = components["kpstream"]
    top.type = ComponentType.APPLICATION
    top.properties.add(Property(name="kpstream:machine", value=target.machine))
    top.properties.add(Property(name="kpstream:python", value=target.python))
    needs = needs_of(by_name, wanted, target)
    bom = Bom(components=[*(c for c in components.values() if c is not top), *models])
    bom.metadata.component = top
    bom.metadata.timestamp = datetime.fromtimestamp(time_s, timezone.utc)
    bom.serial_number = uuid5(
        NAMESPACE_URL,
        " ".join([wheel.sha256 for wheel in wheels] + [student.digest for student in students]),
    )
    for name, component in components.items():
        needed = {canonicalize_name(need.name) for need in needs.get(name, ())}
        bom.register_dependency(component, [components[each] for each in sorted(needed)])
    bom.register_dependency(top, models)
    return _checked(JsonV1Dot6(bom).output_as_string(indent=2))


def container_sbom(bill: str, image: str, installed: Iterable[tuple[str, str]] = ()) -> str:
    """The bill of materials of a container: that of its bundle, its base image, its packages.

    Args:
        bill: Bill of materials of the bundle.
        image: Name of the base image, best with its digest (`name@sha256:...`).
        installed: Name and version of the Debian packages in the image.

    Raises:
        BundleError: It does not match the schema of CycloneDX.
    """
    about: dict[str, Any] = json.loads(bill)
    software = about["metadata"]["component"]
    version = software["version"]
    name, _, digest = image.partition("@")
    base = {"type": "container", "bom-ref": f"image:{image}", "name": name}
    if digest:
        base["version"] = digest
    packages = [
        {
            "type": "library",
            "bom-ref": f"deb:{package}@{found}",
            "name": package,
            "version": found,
            "purl": PackageURL("deb", "debian", package, found).to_string(),
        }
        for package, found in sorted(installed)
    ]
    top = {
        "type": "container",
        "bom-ref": f"container:kpstream@{version}",
        "name": "kpstream",
        "version": version,
    }
    about["metadata"]["component"] = top
    about["components"] = [software, *about["components"], base, *packages]
    about["dependencies"] = [
        *about["dependencies"],
        {
            "ref": top["bom-ref"],
            "dependsOn": [software["bom-ref"], base["bom-ref"]],
        },
        {"ref": base["bom-ref"], "dependsOn": [each["bom-ref"] for each in packages]},
        *({"ref": each["bom-ref"]} for each in packages),
    ]
    serial = uuid5(NAMESPACE_URL, json.dumps([about["serialNumber"], base, packages]))
    about["serialNumber"] = serial.urn
    return _checked(json.dumps(about, indent=2))


def schema_problem(bill: str) -> str | None:
    """Why a text is no bill of materials by the schema of CycloneDX 1.6; None: it is one.

    Raises:
        BundleError: The library has no schemas here.
    """
    try:
        error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill)
    except MissingOptionalDependencyException as exc:
        msg = f"the schemas of CycloneDX cannot be read; run: {install_command('bundle')}"
        raise BundleError(msg) from exc
    return None if error is None else str(error)


def _checked(bill: str) -> str:
    problem = schema_problem(bill)
    if problem:
        msg = f"the bill of materials does not match the schema of CycloneDX 1.6: {problem[:500]}"
        raise BundleError(msg)
    return bill + "\n"


def _component(wheel: Wheel) -> Component:
    purl = PackageURL("pypi", None, wheel.name, str(wheel.version))
    licences = [LicenseFactory().make_from_string(wheel.licence)] if wheel.licence else []
    return Component(
        name=wheel.name,
        version=str(wheel.version),
        type=ComponentType.LIBRARY,
        bom_ref=purl.to_string(),
        purl=purl,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=wheel.sha256)],
        licenses=licences,
        properties=[Property(name="kpstream:file", value=f"wheels/{wheel.path.name}")],
    )


def _student(student: Student) -> Component:
    return Component(
        name=student.name,
        version=str(student.version),
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=f"student:{student.name}@{student.version}",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=student.digest)],
    )
