"""`kpstream log`: repair and accepted loss."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from deploy.commands.log import log
from pipeline.log.locallog import SqliteLog
from pipeline.log.state import NewRecord


def test_a_loss_is_refused_until_it_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with SqliteLog(path, partitions=1, min_free_bytes=0) as file:
        file.append([NewRecord("readings", b"1"), NewRecord("readings", b"2")]).result()
    run = CliRunner()
    assert "2 records kept, 0 lost: intact" in run.invoke(log, ["repair", str(path)]).output
    path.unlink()
    refused = run.invoke(log, ["repair", str(path)])
    assert refused.exit_code == 1
    assert "readings[0] 0 to 1" in refused.output
    assert f"kpstream log accept-loss {path}" in refused.output
    accepted = run.invoke(log, ["accept-loss", str(path)])
    assert accepted.exit_code == 0, accepted.output
    assert "lost readings[0] 0 to 1: not in the files" in accepted.output
    with SqliteLog(path, partitions=1, min_free_bytes=0) as file:
        assert file.stats().accepted_lost == 2


def test_the_log_of_the_settings_is_the_default(tmp_path: Path) -> None:
    environment = {"KPSTREAM_GATEWAY_STATE_DIR": str(tmp_path)}
    result = CliRunner(env=environment).invoke(log, ["repair"])
    assert result.exit_code == 1
    assert f"there is no log {tmp_path / 'log.db'}" in result.output
