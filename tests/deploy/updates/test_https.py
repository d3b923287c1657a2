"""A centre behind https: its certificate is checked, and a fault says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest

from deploy.stack.certs import Plan, make_certificates
from deploy.updates.fetch import Fetcher, FetchFailed
from tests.fakes.rolloutworld import NOW_S, World, in_process, world_of
from tests.fakes.tlsserver import speaking


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certs")
    make_certificates(folder, Plan(days=10), now=datetime.now(timezone.utc))
    return folder


@pytest.fixture
def world(tmp_path: Path, certs: Path) -> Iterator[World]:
    with world_of(tmp_path, "web", context=speaking(certs)) as world:
        world.ca_file = certs / "ca.pem"
        yield world


def failure(world: World) -> str:
    with pytest.raises(FetchFailed) as failed:
        world.fetcher().fetch_index()
    assert failed.value.state == "away"
    assert world.trusted()["timestamp"] == 0
    return str(failed.value)


def test_a_release_comes_over_https(world: World) -> None:
    world.fetch_with_process()
    assert world.fetcher().fetch_index().releases == (world.release,)


def test_an_authority_that_nobody_chose_is_refused(world: World) -> None:
    world.ca_file = None
    assert "is signed by another authority than those this system trusts" in failure(world)


def test_a_file_that_is_no_authority_is_named(world: World, tmp_path: Path) -> None:
    world.ca_file = tmp_path / "root.json"
    assert "KPSTREAM_ROLLOUT_CA_FILE" in failure(world)


def test_a_server_without_tls_behind_https_is_named(tmp_path: Path) -> None:
    with world_of(tmp_path, "web") as world:
        url = world.url.replace("http:", "https:")
        root, state = tmp_path / "root.json", tmp_path / "state" / "rollout"
        fetcher = Fetcher(url, root, state, lambda: NOW_S, child=in_process)
        with pytest.raises(FetchFailed, match="TLS") as failed:
            fetcher.fetch_index()
    assert failed.value.state == "away"
