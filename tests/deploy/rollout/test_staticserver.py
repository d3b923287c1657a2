"""The server of static files: files below one folder, nothing else."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.rollout import staticserver
from deploy.rollout.staticserver import StaticServer
from tests.fakes.centre import make_centre, root_bytes
from tests.fakes.tufclient import fetch_index

BODY = bytes(range(200))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StaticServer]:
    folder = tmp_path / "repository"
    (folder / "metadata").mkdir(parents=True)
    (folder / "metadata" / "1.root.json").write_bytes(BODY)
    (folder / "metadata" / "timestamp.json").write_bytes(b"{}")
    (folder / "metadata" / "empty.json").write_bytes(b"")
    (folder / "metadata" / ".hidden").write_bytes(BODY)
    (tmp_path / "secret.pem").write_bytes(b"secret")
    (folder / "metadata" / "link.json").symlink_to(tmp_path / "secret.pem")
    (folder / "outside").symlink_to(tmp_path)
    with StaticServer(folder) as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.01,))
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def ask(
    server: StaticServer, path: str, method: str = "GET", **headers: str
) -> tuple[int, bytes, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=10)
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, body, response.headers


def test_a_file_a_part_of_it_and_its_size(server: StaticServer) -> None:
    path = "/metadata/1.root.json"
    assert ask(server, path)[:2] == (200, BODY)
    status, body, headers = ask(server, path, Range="bytes=150-")
    assert (status, body, headers["Content-Range"]) == (206, BODY[150:], "bytes 150-199/200")
    assert ask(server, path, Range="bytes=10-19")[:2] == (206, BODY[10:20])
    assert ask(server, path, Range="bytes=500-")[0] == 416
    assert ask(server, path, Range="bytes=a-b")[:2] == (200, BODY)
    status, body, headers = ask(server, path, "HEAD")
    assert (status, body, headers["Content-Length"]) == (200, b"", "200")
    assert ask(server, "/metadata/empty.json")[:2] == (200, b"")


def test_only_the_timestamp_is_asked_for_again(server: StaticServer) -> None:
    assert "immutable" in ask(server, "/metadata/1.root.json")[2]["Cache-Control"]
    assert ask(server, "/metadata/timestamp.json")[2]["Cache-Control"] == "no-cache"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/metadata",
        "/metadata/",
        "/metadata/2.root.json",
        "/metadata/.hidden",
        "/metadata/link.json",
        "/outside/secret.pem",
        "/../secret.pem",
        "/metadata/../../secret.pem",
        "/%2e%2e/secret.pem",
        "/metadata/%2e%2e%2f%2e%2e%2fsecret.pem",
        "//etc/passwd",
        "/metadata/1.root.json%00.json",
        "/metadata/" + "a" * 5000,
    ],
)
def test_everything_else_is_not_found(server: StaticServer, path: str) -> None:
    status, body, _ = ask(server, path)
    assert status == 404
    assert b"secret" not in body


def test_other_methods_are_refused(server: StaticServer) -> None:
    for method in ("POST", "PUT", "DELETE"):
        assert ask(server, "/metadata/1.root.json", method)[0] == 501


def test_connections_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staticserver, "MAX_CONNECTIONS", 1)
    (tmp_path / "a.json").write_bytes(BODY)
    with StaticServer(tmp_path) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        first = http.client.HTTPConnection(*server.server_address[:2], timeout=10)
        first.request("GET", "/a.json")
        assert first.getresponse().read() == BODY  # it stays open
        with pytest.raises((http.client.HTTPException, OSError)):
            ask(server, "/a.json")
        first.close()
        server.shutdown()
        thread.join()


def test_a_repository_behind_it_is_what_a_client_reads(tmp_path: Path) -> None:
    centre = make_centre(tmp_path / "centre")
    with StaticServer(centre.folder.repository) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        host, port = server.server_address[:2]
        base = f"http://{host!s}:{port}"
        index = fetch_index(base, tmp_path / "state", root_bytes(centre))
        server.shutdown()
        thread.join()
    assert index == centre.index()
