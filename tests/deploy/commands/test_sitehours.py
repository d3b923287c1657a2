"""``kpstream site hours`` and ``setup --shorten``, with the real InfluxDB."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy.cli import main
from deploy.settings.settings import SiteSettings
from deploy.stack.servers import InfluxServer
from deploy.stack.site import Site
from deploy.stack.sitesetup import influx_operator, setup_steps
from ingest.settings import IngestSettings
from pipeline.points.lines import to_line
from pipeline.settings import PipelineSettings
from tests.pipeline.stores.test_influxsetup import HOUR_MS, hours_of, scores

pytestmark = pytest.mark.needs_influxd
FIRST_MS = 1_700_000_000_000 // HOUR_MS * HOUR_MS  # 2023-11-14T22:00


@pytest.fixture
def influx(tmp_path: Path) -> Iterator[InfluxServer]:
    with InfluxServer(tmp_path / "influx") as server:
        yield server


def site_of(folder: Path, url: str, scores_days: float) -> Site:
    return Site.of(
        SiteSettings(state_dir=folder, scores_days=scores_days, hourly_days=0),
        IngestSettings(),
        PipelineSettings(influx_url=url),
    )


def buckets(here: Site, **options: bool) -> str:
    return str(next(step for step in setup_steps(here, **options) if step.name == "buckets").run())


def test_a_command_recomputes_hours_of_long_ago(
    tmp_path: Path, influx: InfluxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = site_of(tmp_path / "site", influx.url, scores_days=0)
    buckets(here)
    points, expected = scores([FIRST_MS, FIRST_MS + HOUR_MS])
    with influx_operator(here) as client:
        lines = "\n".join(map(to_line, points)).encode()
        assert client.write("kpstream", lines).status == 204
        monkeypatch.setenv("KPSTREAM_PIPELINE_INFLUX_URL", influx.url)
        command = ["site", "hours", "--state-dir", str(tmp_path / "site"), "--since", "2023-11-14"]
        done = CliRunner().invoke(main, [*command, "--until", "2023-11-14T22:30"])
        assert done.output == (
            "recomputed the hours from 2023-11-14 00:00 to 2023-11-14 22:30 UTC\n"
        )
        found = hours_of(client, "rul_hourly", "device")
        assert {at for _, at, _ in found} == {FIRST_MS}
        assert found["press-1", FIRST_MS, "rul_last"] == expected["press-1", FIRST_MS][-1]
    influx.stop()
    away = CliRunner().invoke(main, command)
    assert away.exit_code == 1
    assert "cannot be reached" in away.output
    never = ["site", "hours", "--state-dir", str(tmp_path / "other"), "--since", "2023-11-14"]
    assert "run `kpstream site setup`" in CliRunner().invoke(main, never).output
    assert not (tmp_path / "other").exists()


def test_a_shorter_retention_needs_an_option(tmp_path: Path, influx: InfluxServer) -> None:
    folder = tmp_path / "site"
    assert "0 changed" not in buckets(site_of(folder, influx.url, 30))
    shorter = site_of(folder, influx.url, 7)
    assert "'kpstream' refused: keeps 30 days; 7 would delete older points" in buckets(shorter)
    assert buckets(shorter, may_shorten=True).endswith(", 1 changed")
    assert buckets(shorter).endswith(", 0 changed")
    assert "--shorten" in CliRunner().invoke(main, ["site", "setup", "--help"]).output
