"""`kpstream replay` refuses recordings that it cannot read, before it looks for a broker."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy.commands.replay import replay


@pytest.mark.parametrize("data_set", ["cmapss", "uci-har"])
@pytest.mark.parametrize(
    ("content", "message"),
    [(b"PK\x03\x04cut", "damaged or incomplete"), (b"<html>", "neither a zip nor a tar")],
)
def test_a_damaged_archive_is_wrong_usage(
    data_set: str, content: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "data.zip"
    path.write_bytes(content)
    done = CliRunner().invoke(replay, [data_set, "--from", str(path), "--mqtt", "localhost:1"])
    assert (done.exit_code, message in " ".join(done.output.split())) == (2, True), done.output
