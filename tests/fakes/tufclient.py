"""A plain client of The Update Framework, to look at a repository from outside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface, Updater

from deploy.rollout.release import INDEX_TARGET, ReleaseIndex

__all__ = ["FolderFetcher", "fetch_index", "fetch_target", "updater"]


class FolderFetcher(FetcherInterface):
    """Reads `file://` URLs."""

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = Path(unquote(urlsplit(url).path))
        if not path.is_file():
            raise DownloadHTTPError(f"no file {path}", 404)
        yield path.read_bytes()


def updater(repository: Path | str, state: Path, root: bytes) -> Updater:
    """A refreshed client of a folder or a URL, with its state in a folder and a pinned root."""
    is_folder = isinstance(repository, Path)
    base = repository.absolute().as_uri() if isinstance(repository, Path) else repository
    (state / "metadata").mkdir(parents=True, exist_ok=True)
    (state / "targets").mkdir(exist_ok=True)
    client = Updater(
        str(state / "metadata"),
        f"{base}/metadata",
        str(state / "targets"),
        f"{base}/targets",
        fetcher=FolderFetcher() if is_folder else None,
        bootstrap=root,
    )
    client.refresh()
    return client


def fetch_target(client: Updater, name: str) -> bytes:
    """A verified target."""
    info = client.get_targetinfo(name)
    assert info is not None, f"the repository does not name {name}"
    return Path(client.download_target(info)).read_bytes()


def fetch_index(repository: Path | str, state: Path, root: bytes) -> ReleaseIndex:
    """The index as a gateway sees it, with every file that a release names."""
    client = updater(repository, state, root)
    index = ReleaseIndex.model_validate_json(fetch_target(client, INDEX_TARGET))
    for release in index.releases:
        for name in release.targets:
            fetch_target(client, name)
    return index
