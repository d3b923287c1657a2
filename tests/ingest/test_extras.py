"""The command that installs a missing extra, by where pip says that kpstream came from."""

from __future__ import annotations

import shlex
import sys
from importlib import metadata
from pathlib import Path

import pytest

from ingest.extras import install_command


@pytest.mark.parametrize(
    ("record", "arguments"),
    [
        (
            '{"url": "file:///opt/a%20clone", "dir_info": {"editable": true}}',
            ["--editable", "/opt/a clone[site]"],
        ),
        ('{"url": "file:///opt/clone", "dir_info": {}}', ["/opt/clone[site]"]),
        (
            '{"url": "file:///tmp/kpstream-1-py3-none-any.whl", "archive_info": {}}',
            ["kpstream[site] @ file:///tmp/kpstream-1-py3-none-any.whl"],
        ),
        (None, ["kpstream[site]"]),
        ("no JSON", ["kpstream[site]"]),
    ],
)
def test_the_command_names_the_origin(
    monkeypatch: pytest.MonkeyPatch, record: str | None, arguments: list[str]
) -> None:
    class Installed:
        def __init__(self, record: str | None) -> None:
            self.record = record

        def read_text(self, name: str) -> str | None:
            assert name == "direct_url.json"
            return self.record

    found = [Installed(None), Installed(record)]  # a clone's own egg-info comes first
    monkeypatch.setattr(metadata, "distributions", lambda **_name: found)
    wanted = [sys.executable, "-m", "pip", "install", *arguments]
    assert shlex.split(install_command("site")) == wanted


def test_the_command_of_this_environment_names_its_clone() -> None:
    *_, wanted = shlex.split(install_command("site"))
    assert (Path(wanted.removesuffix("[site]")) / "pyproject.toml").exists()
