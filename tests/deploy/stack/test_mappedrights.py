"""Rights at the broker for mapped devices: each on its own topics, the bridge on all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.stack.acl import devices_acl, services_acl
from deploy.stack.mappedrights import Rights, mapped_rights
from ingest.errors import MappingInvalid


@pytest.fixture
def certs(tmp_path: Path) -> Path:
    for name in ("hall/plug-1", "hall/plug-2", "yard/plug-1"):
        path = tmp_path / "certs" / "devices" / f"{name}.pem"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "certs"


def test_a_device_may_publish_on_its_own_topics_only(tmp_path: Path, certs: Path) -> None:
    files = tmp_path / "mappings"
    files.mkdir()
    (files / "plugs.toml").write_text(
        'topic = ["tele/{device}/SENSOR", "{site}/{device}/+/x"]\nsite = "hall"\nstream = "m"\n'
        '[channels]\npower = "P"\n'
    )
    (files / "yard.toml").write_text(
        'topic = "{site}/{device}/#"\nstream = "m"\n[channels]\npower = "P"\n'
    )
    (files / "gw.toml").write_text(
        'topic = "gw/data"\nsite = "hall"\ndevice = { path = "id" }\nstream = "m"\n'
        '[channels]\npower = "P"\n'
    )
    (files / "broken.toml").write_text("nonsense")
    found = mapped_rights(files, certs)
    assert list(found.filters) == ["gw/data", "tele/+/SENSOR", "+/+/+/x", "+/+/#"]
    assert found.devices["hall/plug-1"] == ["tele/plug-1/SENSOR", "+/plug-1/+/x", "hall/plug-1/#"]
    assert found.devices["yard/plug-1"] == ["yard/plug-1/#"]
    acl = devices_acl(nodes=["hall/plug-2"], denied=["yard/plug-1"], mapped=found.devices)
    assert "user hall/plug-1\ntopic write tele/plug-1/SENSOR\n" in acl
    assert acl.count("user hall/plug-2\n") == 1
    assert "topic write tele/plug-2/SENSOR" in acl
    assert "topic write yard" not in acl
    services = services_acl(mapped=found.filters)
    assert "topic read tele/+/SENSOR" in services
    assert "topic readwrite gw/data" in services


def test_without_mappings_nobody_has_more_rights(certs: Path) -> None:
    assert mapped_rights(None, certs) == Rights()
    assert devices_acl(mapped={}) == devices_acl()
    assert services_acl(mapped=()) == services_acl()


def test_a_line_break_never_reaches_the_file() -> None:
    assert devices_acl(mapped={"a/b": ["x\ntopic write #"]}) == devices_acl()
    assert services_acl(mapped=["x\ntopic read #"]) == services_acl()


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MappingInvalid):
        mapped_rights(tmp_path / "none", None)
