"""The bill of materials: every wheel with digest and licence, what it needs, the students."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from deploy.bundle.sbom import container_sbom, schema_problem
from deploy.bundle.target import Target
from tests.fakes.wheels import make_bundle_content


@pytest.fixture
def content(tmp_path: Path) -> Path:
    make_bundle_content(tmp_path / "content", Target("aarch64", "3.11"))
    return tmp_path / "content"


@pytest.fixture
def bill(content: Path) -> str:
    return (content / "sbom.cdx.json").read_text()


def by_ref(bill: dict[str, Any]) -> dict[str, Any]:
    return {part["bom-ref"]: part for part in (bill["metadata"]["component"], *bill["components"])}


def test_it_matches_the_schema_and_names_every_wheel(content: Path, bill: str) -> None:
    assert schema_problem(bill) is None
    found = json.loads(bill)
    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.6")
    parts = by_ref(found)
    for path in content.glob("wheels/*.whl"):
        name, version = path.name.split("-")[:2]
        part = parts[f"pkg:pypi/{name.replace('_', '-')}@{version}"]
        assert part["purl"] == part["bom-ref"]
        assert part["hashes"] == [
            {"alg": "SHA-256", "content": sha256(path.read_bytes()).hexdigest()}
        ]
    assert parts["pkg:pypi/kpstream@1.2.3"]["type"] == "application"
    assert parts["student:har-waist@1"]["type"] == "machine-learning-model"


def test_licences_are_those_of_the_wheels(bill: str) -> None:
    parts = by_ref(json.loads(bill))
    assert parts["pkg:pypi/faust-streaming@0.15.3"]["licenses"] == [
        {"license": {"id": "BSD-3-Clause"}}
    ]
    assert parts["pkg:pypi/tuf@7.0.1"]["licenses"] == [{"license": {"id": "MIT"}}]
    assert "licenses" not in parts["pkg:pypi/numpy@2.1"], "no licence is made up"


def test_it_says_what_needs_what(bill: str) -> None:
    needs = {each["ref"]: each.get("dependsOn", []) for each in json.loads(bill)["dependencies"]}
    assert sorted(needs["pkg:pypi/kpstream@1.2.3"]) == [
        "pkg:pypi/faust-streaming@0.15.3",
        "pkg:pypi/numpy@2.1",
        "pkg:pypi/tuf@7.0.1",
        "student:har-waist@1",
    ]
    assert needs["pkg:pypi/numpy@2.1"] == []


def test_the_bill_of_a_container_adds_its_image_and_packages(bill: str) -> None:
    image = "docker.io/library/debian@sha256:" + "a" * 64
    whole = container_sbom(bill, image, [("mosquitto", "2.0.11-1.2+deb12u2"), ("libc6", "2.36-9")])
    assert schema_problem(whole) is None
    found = json.loads(whole)
    parts = by_ref(found)
    assert parts["container:kpstream@1.2.3"] == found["metadata"]["component"]
    assert parts[f"image:{image}"]["version"] == "sha256:" + "a" * 64
    assert parts["deb:mosquitto@2.0.11-1.2+deb12u2"]["purl"] == (
        "pkg:deb/debian/mosquitto@2.0.11-1.2%2Bdeb12u2"
    )
    assert by_ref(json.loads(bill)).keys() < parts.keys()
    needs = {each["ref"]: each.get("dependsOn", []) for each in found["dependencies"]}
    assert needs["container:kpstream@1.2.3"] == ["pkg:pypi/kpstream@1.2.3", f"image:{image}"]
    assert found["serialNumber"] != json.loads(bill)["serialNumber"]
    assert container_sbom(bill, image) != whole


def test_what_matches_no_schema_is_told(bill: str) -> None:
    broken = json.loads(bill) | {"specVersion": 7}
    assert "specVersion" in (schema_problem(json.dumps(broken)) or "") or "7" in (
        schema_problem(json.dumps(broken)) or ""
    )
