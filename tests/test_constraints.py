"""The pinned versions cover the requirements of pyproject.toml and name no index."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
LINES = [
    line
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if line and not line.startswith("#")
]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_line_is_one_exact_version() -> None:
    wrong = [
        line for line in LINES if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][\w.]*( ; .+)?", line)
    ]
    assert not wrong, "name==version, perhaps with an environment marker"


def test_every_direct_requirement_is_pinned() -> None:
    pinned = {_normal(line.partition("==")[0]) for line in LINES}
    wanted = {
        _normal(re.split(r"[^A-Za-z0-9._-]", need, maxsplit=1)[0])
        for need in requires("kpstream") or []
    }
    assert wanted - {"kpstream"} <= pinned


def _hashed() -> dict[str, list[str]]:
    """Each line of the file with hashes, without them, and its hashes."""
    text = (ROOT / "requirements-gateway.txt").read_text()
    lines = "".join(line for line in text.splitlines(True) if not line.startswith("#"))
    found: dict[str, list[str]] = {}
    for line in lines.replace("\\\n", " ").splitlines():
        need, *hashes = line.split(" --hash=")
        found[need.strip()] = [each.strip() for each in hashes]
    return found


def test_the_file_with_hashes_has_the_versions_of_the_constraints() -> None:
    """A marker may be narrower: a gateway needs less than all extras together."""
    tested = {line.partition(" ; ")[0] for line in LINES}
    found = {need.partition(" ; ")[0] for need in _hashed()}
    assert sorted(found - tested) == [], "renew it: its first lines say how"


def test_every_requirement_of_a_gateway_has_a_hash_and_no_line_names_an_index() -> None:
    hashed = _hashed()
    assert not [need for need in hashed if "://" in need or need.startswith("-")]
    assert [
        need
        for need, hashes in hashed.items()
        if not hashes or not all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes)
    ] == []
    pinned = {_normal(need.partition("==")[0]) for need in hashed}
    wanted = {
        _normal(re.split(r"[^A-Za-z0-9._-]", need, maxsplit=1)[0])
        for need in (*PROJECT["dependencies"], *EXTRAS["gateway"], *EXTRAS["rollout"])
    }
    assert wanted - {"kpstream"} <= pinned
    # What these need in turn, as far as this environment has it installed.
    assert {_normal(name) for name in _needed_by(pinned)} <= pinned


def _needed_by(names: set[str]) -> set[str]:
    """Packages that the installed packages of these names need here, without extras."""
    needed: set[str] = set()
    for name in names:
        try:
            found = [Requirement(need) for need in requires(name) or []]
        except PackageNotFoundError:  # for another Python or system
            continue
        needed |= {
            need.name
            for need in found
            if need.marker is None or need.marker.evaluate({"extra": ""})
        }
    return needed


@pytest.mark.parametrize("extra", ["", "gateway", "rollout", "demo", "site"])
def test_what_runs_in_a_plant_has_an_upper_bound(extra: str) -> None:
    needs = EXTRAS[extra] if extra else PROJECT["dependencies"]
    assert [
        need
        for need in needs
        if not need.startswith("kpstream[") and "<" not in need.partition(";")[0]
    ] == []


def test_no_gateway_needs_the_embedded_broker() -> None:
    named = [extra for extra, needs in EXTRAS.items() if any("amqtt" in need for need in needs)]
    assert named == ["demo"]
