"""The client: requests, and an error with advice for every failure of Grafana."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from dashboards.errors import (
    DashboardsError,
    GrafanaConflict,
    GrafanaDenied,
    GrafanaMissing,
    GrafanaRefused,
    GrafanaUnavailable,
)
from dashboards.grafana.client import GrafanaClient, Save
from tests.fakes.grafana import TOKEN, FakeGrafana

BOARD = {
    "uid": "b",
    "title": "B",
    "schemaVersion": 41,
    "refresh": "30s",
    "time": {"from": "now-1h", "to": "now"},
    "templating": {"list": []},
    "annotations": {"list": []},
    "panels": [],
}


@pytest.fixture
def client(grafana: FakeGrafana) -> Iterator[GrafanaClient]:
    made = GrafanaClient(grafana.url, SecretStr(TOKEN))
    yield made
    made.close()


def test_a_missing_item_is_none(client: GrafanaClient) -> None:
    assert client.board("x") is None
    assert client.last_save("x") is None
    assert client.folder("x") is None
    assert client.source("x") is None
    assert client.group("x", "y") is None


def test_a_board_is_saved_with_its_version_and_message(client: GrafanaClient) -> None:
    client.create_folder("f", "F")
    assert client.save_board(BOARD, "f", "first", version=None, force=False) == 1
    assert client.save_board(BOARD, "f", "second", version=1, force=False) == 2
    board, meta = client.board("b")
    assert (board["version"], meta["folderUid"]) == (2, "f")
    assert client.last_save("b") == Save(2, "second", "sa-1-kpstream", "2026-01-01T12:00:00Z")


@pytest.mark.parametrize("newer", [False, True])
def test_the_message_of_the_first_save_is_read_although_the_list_hides_it(
    client: GrafanaClient, grafana: FakeGrafana, newer: bool
) -> None:
    grafana.migrates = newer
    client.create_folder("f", "F")
    client.save_board(BOARD, "f", "first", version=None, force=False)
    save = client.last_save("b")
    assert save is not None
    assert save.message == "first"


def test_an_existing_board_is_not_created_again(client: GrafanaClient) -> None:
    client.create_folder("f", "F")
    client.save_board(BOARD, "f", "", version=None, force=False)
    with pytest.raises(GrafanaConflict, match="412: The dashboard has been changed"):
        client.save_board(BOARD, "f", "", version=None, force=False)
    assert client.save_board(BOARD, "f", "", version=None, force=True) == 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"title": ""}, "title cannot be empty"),
        ({"uid": "x" * 41}, "max 40"),
        ({"uid": "a/b"}, "illegal"),
    ],
)
def test_an_invalid_board_is_refused_with_the_reason(
    client: GrafanaClient, change: dict, reason: str
) -> None:
    client.create_folder("f", "F")
    with pytest.raises(GrafanaRefused, match=reason):
        client.save_board(BOARD | change, "f", "", version=None, force=False)


def test_a_board_needs_its_folder(client: GrafanaClient) -> None:
    with pytest.raises(GrafanaRefused, match="400: folder not found"):
        client.save_board(BOARD, "nowhere", "", version=None, force=False)


def test_folders_of_one_uid_conflict(client: GrafanaClient) -> None:
    client.create_folder("f", "F")
    with pytest.raises(GrafanaConflict, match="409"):
        client.create_folder("f", "F again")
    with pytest.raises(GrafanaConflict, match="412"):
        client.rename_folder("f", "G", version=7)
    client.rename_folder("f", "G", version=1)
    client.delete_folder("f")
    with pytest.raises(GrafanaMissing, match="404"):
        client.delete_folder("f")


def test_data_sources_of_one_name_conflict(client: GrafanaClient) -> None:
    source = {
        "uid": "s",
        "name": "S",
        "type": "influxdb",
        "access": "proxy",
        "url": "http://127.0.0.1:8086",
        "jsonData": {"version": "Flux"},
    }
    client.create_source(source)
    with pytest.raises(GrafanaConflict, match="same name"):
        client.create_source(source | {"uid": "t"})
    with pytest.raises(GrafanaRefused, match="invalid URL"):
        client.update_source(source | {"url": "nonsense"})
    client.delete_source("s")


def test_names_in_paths_are_escaped(client: GrafanaClient, grafana: FakeGrafana) -> None:
    assert client.group("f", "a b/c?d#e") is None
    assert grafana.requests == ["GET /api/v1/provisioning/folder/f/rule-groups/a%20b%2Fc%3Fd%23e"]


def test_grafana_below_a_path(grafana: FakeGrafana) -> None:
    with FakeGrafana(prefix="/tools/grafana") as below:
        client = GrafanaClient(f"{below.url}/", SecretStr(TOKEN))
        assert client.url == below.url
        client.create_folder("f", "F")
        assert "f" in below.folders
        client.close()
        assert below.flaws == []


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        ((401, {"message": "Invalid API key"}), GrafanaDenied, "Check KPSTREAM_GRAFANA_TOKEN"),
        ((403, {"message": "no"}), GrafanaDenied, "Use a token with a sufficient role"),
        ((409, {"message": "taken"}), GrafanaConflict, "409: taken"),
        ((400, {"message": "Cannot save provisioned dashboard"}), GrafanaConflict, "file owns it"),
        ((400, {"message": "bad request data"}), GrafanaRefused, "400: bad request data"),
        ((422, ["odd"]), GrafanaRefused, "422"),
        ((429, {"message": "slow down"}), GrafanaUnavailable, "429: slow down"),
        ((500, {"message": "database is locked"}), GrafanaUnavailable, "database is locked"),
        ((502, None), GrafanaUnavailable, "502: no reason given"),
        ((500, 7), GrafanaRefused, "form that Grafana does not use"),
        (b"<html>log in</html>", GrafanaRefused, "check that this is Grafana's URL"),
    ],
)
def test_every_failure_has_its_error_and_advice(
    client: GrafanaClient, grafana: FakeGrafana, answer, error: type[DashboardsError], words: str
) -> None:
    grafana.script = [answer]
    with pytest.raises(error, match=words):
        client.create_folder("f", "F")


@pytest.mark.parametrize("answer", [(202, None), b""])
def test_an_empty_answer_is_accepted(client: GrafanaClient, grafana: FakeGrafana, answer) -> None:
    grafana.script = [answer]
    client.create_folder("f", "F")


def test_a_wrong_token_is_denied_and_not_shown(
    grafana: FakeGrafana, caplog: pytest.LogCaptureFixture
) -> None:
    client = GrafanaClient(grafana.url, SecretStr("wrong-token-value"))
    with caplog.at_level(logging.DEBUG), pytest.raises(GrafanaDenied) as caught:
        client.folder("f")
    assert "wrong-token-value" not in f"{caught.value!r} {caught.value.__cause__!r} {caplog.text}"
    client.close()


def test_versions_without_permission_are_none(client: GrafanaClient, grafana: FakeGrafana) -> None:
    grafana.script = [(403, {"message": "Access denied to this dashboard"})]
    assert client.last_save("b") is None


def test_a_closed_port_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    client = GrafanaClient(f"http://127.0.0.1:{port}", SecretStr(TOKEN))
    with pytest.raises(GrafanaUnavailable, match="does not answer GET /folders/f"):
        client.folder("f")
    client.close()


def test_a_grafana_that_does_not_answer_is_unavailable_after_the_timeout(
    grafana: FakeGrafana,
) -> None:
    client = GrafanaClient(grafana.url, SecretStr(TOKEN), timeout_s=0.1)
    may_answer = threading.Event()
    grafana.before = lambda _request: may_answer.wait(60)
    with pytest.raises(GrafanaUnavailable, match="Timeout"):
        client.folder("f")
    may_answer.set()
    client.close()


@pytest.mark.parametrize("url", ["", "127.0.0.1:3000", "ftp://x", "http://"])
def test_an_invalid_url_is_refused_at_once(url: str) -> None:
    with pytest.raises(DashboardsError, match="must look like"):
        GrafanaClient(url, SecretStr(TOKEN))
