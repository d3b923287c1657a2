"""Push, diff and pull against the stand-in, and against a real Grafana if one is set."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from dashboards.errors import GrafanaConflict, GrafanaDenied, GrafanaMissing
from dashboards.grafana.client import GrafanaClient
from dashboards.grafana.sync import compare, pull, push
from dashboards.site import DataSource, SiteDashboards, site_dashboards
from dashboards.visuals.limits import Limits
from tests.fakes.grafana import TOKEN, FakeGrafana

REAL = {name: os.environ.get(f"KPSTREAM_GRAFANA_{name}") for name in ("URL", "TOKEN")}
INFLUX = SecretStr("influx-token-that-must-not-leak")
FLEET = "kpstream-fleet"


@pytest.fixture(
    params=[
        "stand-in",
        pytest.param(
            "real",
            marks=pytest.mark.skipif(
                not all(REAL.values()),
                reason="set KPSTREAM_GRAFANA_URL and _TOKEN (role Admin) for a real Grafana",
            ),
        ),
    ]
)
def client(request: pytest.FixtureRequest) -> Iterator[GrafanaClient]:
    """A client of the stand-in or of the real Grafana."""
    if request.param == "real":
        made = GrafanaClient(str(REAL["URL"]), SecretStr(str(REAL["TOKEN"])))
    else:
        server: FakeGrafana = request.getfixturevalue("grafana")
        made = GrafanaClient(server.url, SecretStr(TOKEN))
    yield made
    made.close()


@pytest.fixture
def site(client: GrafanaClient) -> Iterator[SiteDashboards]:
    """All boards and alerts under uids of this test, deleted afterwards."""
    made = renamed(site_dashboards(), uuid.uuid4().hex[:8])
    yield made
    if client.folder(made.folder_uid) is not None:
        client.delete_folder(made.folder_uid)
    if client.source(made.source.uid) is not None:
        client.delete_source(made.source.uid)


def renamed(site: SiteDashboards, prefix: str) -> SiteDashboards:
    """The site under other uids, for a Grafana that others use too."""
    boards = {
        f"{prefix}-{uid}": replace(board, uid=f"{prefix}-{uid}")
        for uid, board in site.boards.items()
    }
    groups = [
        replace(
            group,
            rules=[
                replace(
                    rule,
                    uid=f"{prefix}-{rule.uid}",
                    panel=(f"{prefix}-{rule.panel[0]}", rule.panel[1]),
                )
                for rule in group.rules
            ],
        )
        for group in site.groups
    ]
    return replace(
        site,
        boards=boards,
        groups=groups,
        source=DataSource(uid=f"{prefix}-influxdb", name=f"test {prefix}"),
        folder_uid=f"{prefix}-folder",
        folder_title=f"test {prefix}",
    )


def states(found) -> dict[tuple[str, str], str]:
    return {(item.kind, item.name): item.state for item in found}


def everything(
    client: GrafanaClient, site: SiteDashboards, **options
) -> dict[tuple[str, str], str]:
    return states(push(client, site, INFLUX, **options))


# ------------------------------------------------------------- the stand-in and a real Grafana


def test_first_push_creates_everything_and_the_second_changes_nothing(client, site) -> None:
    assert set(everything(client, site).values()) == {"missing"}
    versions = {uid: client.board(uid)[0]["version"] for uid in site.boards}
    assert set(everything(client, site).values()) == {"same"}
    assert {uid: client.board(uid)[0]["version"] for uid in site.boards} == versions
    assert set(states(compare(client, site, INFLUX)).values()) == {"same"}


def test_grafana_has_the_pushed_boards(client, site) -> None:
    everything(client, site)
    for uid in site.boards:
        board, meta = client.board(uid)
        assert meta["folderUid"] == site.folder_uid
        assert board["title"] == site.boards[uid].title
    for group in site.groups:
        there = client.group(site.folder_uid, group.name)
        assert there["interval"] == group.interval_s
        assert {rule["uid"] for rule in there["rules"]} == {rule.uid for rule in group.rules}
    source = client.source(site.source.uid)
    assert source["jsonData"]["version"] == "Flux"
    assert source["secureJsonFields"]["token"] is True


def test_changed_code_is_a_difference_until_it_is_pushed(client, site) -> None:
    everything(client, site)
    limited = renamed(site_dashboards(Limits(rul_cycles=42)), site.folder_uid.partition("-")[0])
    found = {item.name: item for item in compare(client, limited, INFLUX)}
    different = {name for name, item in found.items() if item.state == "different"}
    fleet = next(uid for uid in site.boards if uid.endswith("fleet"))
    assert {fleet, "kpstream machines"} <= different
    assert any(line.startswith("+") and "42" in line for line in found[fleet].lines)
    assert any(line.startswith("-") and "20" in line for line in found[fleet].lines)
    everything(client, limited)
    assert set(states(compare(client, limited, INFLUX)).values()) == {"same"}


def test_a_rule_that_left_the_code_is_deleted(client, site) -> None:
    everything(client, site)
    first = site.groups[0]
    fewer = replace(site, groups=[replace(first, rules=first.rules[:1]), *site.groups[1:]])
    assert everything(client, fewer)["alerts", first.name] == "different"
    there = client.group(site.folder_uid, first.name)
    assert [rule["uid"] for rule in there["rules"]] == [first.rules[0].uid]


def test_pull_writes_normalised_json(client, site, tmp_path: Path) -> None:
    everything(client, site)
    written = pull(client, site, tmp_path)
    assert len(written) == len(site.boards) + len(site.groups)
    for uid in site.boards:
        board = json.loads((tmp_path / "json" / f"{uid}.json").read_text())
        assert not {"id", "version"} & set(board)
        assert board["title"] == site.boards[uid].title
    rules = json.loads((tmp_path / "alerts" / "kpstream-machines.json").read_text())["rules"]
    assert not {"id", "updated", "provenance"} & set(rules[0])
    assert pull(client, site, tmp_path) == []


def test_a_renamed_folder_gets_its_title_back(client, site) -> None:
    everything(client, site)
    folder = client.folder(site.folder_uid)
    client.rename_folder(site.folder_uid, f"other {site.folder_uid}", folder["version"])
    assert everything(client, site)["folder", site.folder_uid] == "different"
    assert client.folder(site.folder_uid)["title"] == site.folder_title


def test_a_change_between_compare_and_push_is_a_conflict(client, site) -> None:
    everything(client, site)
    uid = next(iter(site.boards))
    board, _ = client.board(uid)
    client.save_board(
        board | {"title": "theirs"}, site.folder_uid, "", version=board["version"], force=False
    )
    with pytest.raises(GrafanaConflict, match="changed by someone else"):
        client.save_board(board, site.folder_uid, "", version=board["version"], force=False)
    client.save_board(board, site.folder_uid, "", version=board["version"], force=True)


def test_a_new_token_of_influxdb_is_pushed_and_not_shown(client, site) -> None:
    everything(client, site)
    other = SecretStr("another-influx-token")
    (found,) = [item for item in compare(client, site, other) if item.state != "same"]
    assert found.kind == "data source"
    assert "another-influx" not in " ".join(found.lines)
    assert set(states(push(client, site, other)).values()) == {"same", "different"}
    assert set(states(compare(client, site, other)).values()) == {"same"}


# ------------------------------------------------------------------------------ only the stand-in


@pytest.fixture
def own(grafana: FakeGrafana) -> Iterator[GrafanaClient]:
    """A client of the stand-in."""
    made = GrafanaClient(grafana.url, SecretStr(TOKEN))
    yield made
    made.close()


SITE = site_dashboards()


def test_second_push_only_reads(own, grafana) -> None:
    everything(own, SITE)
    grafana.writes.clear()
    everything(own, SITE)
    assert grafana.writes == []
    assert grafana.secrets[SITE.source.uid] == {"token": INFLUX.get_secret_value()}


def test_a_grafana_that_migrates_boards_makes_no_difference(own, grafana) -> None:
    grafana.migrates = True
    everything(own, SITE)
    assert set(everything(own, SITE).values()) == {"same"}
    assert len(grafana.boards[FLEET]) == 1
    changed = site_dashboards(Limits(rul_cycles=42))
    everything(own, changed)
    assert set(everything(own, changed).values()) == {"same"}
    assert len(grafana.boards[FLEET]) == 2


def test_a_board_changed_by_another_user_stops_the_push_before_any_write(own, grafana) -> None:
    everything(own, SITE)
    grafana.other_user_saves(FLEET, lambda board: board.update(title="Alice's fleet"))
    grafana.writes.clear()
    with pytest.raises(GrafanaConflict) as caught:
        everything(own, site_dashboards(Limits(silent_s=99)))
    assert grafana.writes == []
    for words in (FLEET, "version 2 was saved by alice", "pull", "--force", "Nothing was written"):
        assert words in str(caught.value)


def test_force_overwrites_a_board_and_grafana_keeps_the_old_version(own, grafana) -> None:
    everything(own, SITE)
    grafana.other_user_saves(FLEET, lambda board: board.update(title="Alice's fleet"))
    (found,) = [item for item in compare(own, SITE, INFLUX) if item.state != "same"]
    assert '-  "title": "Alice\'s fleet",' in found.lines
    assert everything(own, SITE, force=True)["board", FLEET] == "different"
    assert [board["version"] for board in grafana.boards[FLEET]] == [1, 2, 3]
    assert set(everything(own, SITE).values()) == {"same"}


def test_a_board_saved_by_another_user_without_a_change_is_no_conflict(own, grafana) -> None:
    everything(own, SITE)
    grafana.other_user_saves(FLEET, lambda board: None)
    assert everything(own, SITE)["board", FLEET] == "same"


def test_a_board_created_by_another_user_under_the_uid_is_not_overwritten(own, grafana) -> None:
    everything(own, SITE)
    grafana.boards[FLEET] = grafana.boards[FLEET][:1]
    grafana.boards[FLEET][0] |= {"message": "", "who": "bob"}
    grafana.boards[FLEET][0]["model"]["title"] = "Bob's"
    with pytest.raises(GrafanaConflict, match="saved by bob"):
        everything(own, SITE)


def test_a_save_during_the_push_is_a_conflict_with_advice(own, grafana) -> None:
    everything(own, SITE)
    changed = site_dashboards(Limits(rul_cycles=42))
    found = [item for item in compare(own, changed, INFLUX) if item.name == FLEET]
    grafana.other_user_saves(FLEET, lambda board: board.update(title="now"))
    with pytest.raises(GrafanaConflict, match="changed by someone else"):
        found[0].write(False)
    assert grafana.boards[FLEET][-1]["model"]["title"] == "now"

    def save_in_between(request: str) -> None:
        grafana.before = save_in_between
        if request == "POST /api/dashboards/db":
            grafana.before = None
            grafana.other_user_saves(FLEET, lambda board: None)

    everything(own, SITE, force=True)
    grafana.before = save_in_between
    with pytest.raises(GrafanaConflict, match=r"was not written: .*check `kpstream dashboards"):
        everything(own, changed)


def test_a_board_in_another_folder_is_moved_back(own, grafana) -> None:
    everything(own, SITE)
    grafana.boards[FLEET][-1]["folder"] = ""
    (found,) = [item for item in compare(own, SITE, INFLUX) if item.state != "same"]
    assert found.lines == ("in folder 'root' instead of 'kpstream'",)
    everything(own, SITE)
    assert grafana.boards[FLEET][-1]["folder"] == SITE.folder_uid


@pytest.mark.parametrize("force", [False, True])
def test_boards_of_a_provisioning_file_are_a_conflict_that_force_does_not_solve(
    own, grafana, force
) -> None:
    everything(own, SITE)
    grafana.provisioned.add(FLEET)
    grafana.boards[FLEET][-1] |= {"message": "", "who": "Anonymous"}
    assert set(everything(own, SITE, force=force).values()) == {"same"}
    grafana.writes.clear()
    with pytest.raises(GrafanaConflict, match="a provisioning file owns it") as caught:
        everything(own, site_dashboards(Limits(rul_cycles=42)), force=force)
    assert grafana.writes == []
    assert "--force" not in str(caught.value)
    assert "Anonymous" not in str(caught.value)


@pytest.mark.parametrize("version", [(9, 4, 0), (11, 5, 1), (11, 5, 2), (13, 0, 0)])
@pytest.mark.parametrize("role", ["Admin", "Editor"])
def test_the_first_push_succeeds_on_every_version_and_the_second_only_reads(
    own, grafana, version, role
) -> None:
    grafana.version = version
    own.create_source(SITE.source.json())
    grafana.role = role
    grafana.writes.clear()
    assert set(states(push(own, SITE)).values()) == {"missing", "same"}
    for group in SITE.groups:
        assert own.group(SITE.folder_uid, group.name)["interval"] == group.interval_s
    grafana.writes.clear()
    assert set(states(push(own, SITE)).values()) == {"same"}
    assert grafana.writes == []


def test_a_folder_that_an_editor_may_not_read_is_denied(own, grafana) -> None:
    grafana.script = [(403, {"message": "Access denied"}), (200, [{"uid": "kpstream"}])]
    with pytest.raises(GrafanaDenied):
        own.folder("kpstream")


def test_a_default_that_the_server_leaves_out_is_no_difference(own, grafana) -> None:
    everything(own, SITE)
    for group in grafana.groups.values():
        for rule in group["rules"]:
            for part in rule["data"]:
                part["relativeTimeRange"] = {
                    key: value for key, value in part["relativeTimeRange"].items() if value
                }
    assert set(everything(own, SITE).values()) == {"same"}
    for group in grafana.groups.values():
        group["rules"][0]["isPaused"] = True
    assert "different" in everything(own, SITE).values()


def test_rules_of_a_provisioning_file_are_a_conflict(own, grafana) -> None:
    everything(own, SITE)
    grafana.provenance["kpstream-rul-low"] = "file"
    with pytest.raises(GrafanaConflict, match=r"needs 'file'.*If a provisioning file owns it"):
        everything(own, site_dashboards(Limits(rul_cycles=42)))


def test_rules_changed_by_another_user_are_restored(own, grafana) -> None:
    everything(own, SITE)
    group = grafana.groups["kpstream", "kpstream machines"]
    group["rules"][0]["data"][-1]["model"]["conditions"][0]["evaluator"]["params"] = [5]
    (found,) = [item for item in compare(own, SITE, INFLUX) if item.state != "same"]
    assert found.name == "kpstream machines"
    assert any(line.startswith("-") and line.strip().endswith(" 5") for line in found.lines)
    everything(own, SITE)
    assert set(everything(own, SITE).values()) == {"same"}


def test_a_rule_with_its_own_receiver_is_a_difference(own, grafana) -> None:
    everything(own, SITE)
    group = grafana.groups["kpstream", "kpstream machines"]
    group["rules"][0]["notification_settings"] = {"receiver": "nobody"}
    assert everything(own, SITE)["alerts", "kpstream machines"] == "different"


def test_without_an_influxdb_token_the_data_source_must_exist(own, grafana) -> None:
    with pytest.raises(GrafanaMissing, match="KPSTREAM_GRAFANA_INFLUX_TOKEN"):
        list(push(own, SITE))
    assert grafana.writes == []
    own.create_source(SITE.source.json() | {"url": "http://elsewhere:8086"})
    grafana.writes.clear()
    assert states(push(own, SITE))["data source", SITE.source.uid] == "same"
    assert grafana.sources[SITE.source.uid]["url"] == "http://elsewhere:8086"


def test_an_editor_pushes_boards_but_cannot_create_a_data_source(own, grafana) -> None:
    grafana.role = "Editor"
    with pytest.raises(GrafanaDenied, match="datasources:create"):
        everything(own, SITE)
    grafana.role = "Admin"
    own.create_source(SITE.source.json())
    grafana.role = "Editor"
    assert states(push(own, SITE))["board", FLEET] == "missing"
    assert FLEET in grafana.boards


def test_an_updated_data_source_keeps_foreign_options(own, grafana) -> None:
    everything(own, SITE)
    source = grafana.sources[SITE.source.uid]
    source["jsonData"]["timeInterval"] = "5s"
    source["isDefault"] = True
    moved = site_dashboards(source=DataSource(url="http://influx.example:8086"))
    everything(own, moved)
    source = grafana.sources[SITE.source.uid]
    assert source["url"] == "http://influx.example:8086"
    assert source["jsonData"]["timeInterval"] == "5s"
    assert source["isDefault"] is True


def test_a_read_only_data_source_is_denied_with_advice(own, grafana) -> None:
    everything(own, SITE)
    grafana.sources[SITE.source.uid]["readOnly"] = True
    with pytest.raises(GrafanaDenied, match=r"read-only.*if a provisioning file owns it"):
        everything(own, site_dashboards(source=DataSource(url="http://influx.example:8086")))
