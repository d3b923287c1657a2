"""The pinned versions cover the requirements of pyproject.toml and name no index."""

from __future__ import annotations

import re
from importlib.metadata import requires
from pathlib import Path

import pytest

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
LINES = [
    line
    for line in (Path(__file__).parent.parent / "constraints.txt").read_text().splitlines()
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


@pytest.mark.parametrize("extra", ["", "gateway", "demo", "site"])
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
