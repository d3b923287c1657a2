"""A centre with one release and a gateway that has fetched it, for tests of what happens next."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from deploy.rollout.release import Release
from deploy.updates.fetch import Fetcher, FetchLimits, run_child
from deploy.updates.fetchchild import Request, answer
from models.dummy import write_dummy
from tests.fakes.repositoryserver import RepositoryServer, serving
from tests.fakes.tufrepository import MadeRepository

NOW_S = 1_800_000_000
Child = Callable[[Mapping[str, Any]], bytes]


def in_process(request: Mapping[str, Any]) -> bytes:
    """The child's work in this process: no start of Python, and no bounds of the kernel."""
    return json.dumps(answer(Request(**request))).encode()


def make_dummy(folder: Path, version: int) -> None:
    """A small student."""
    write_dummy(folder, version=version)


class World:
    """See the file.

    Attributes:
        made: The centre.
        server: Its web server; None for a folder.
        now_s: The gateway's clock.
        release: The newest honest release.
        honest: A copy of the repository with it.
        child: What runs the child.
        ca_file: The authority for https; None: the system's.
    """

    def __init__(
        self,
        folder: Path,
        server: RepositoryServer | None,
        thresholds: dict[str, int] | None = None,
        now_s: int = NOW_S,
        make: Callable[[Path, int], object] = make_dummy,
    ) -> None:
        self.folder, self.server, self._make = folder, server, make
        self.made = MadeRepository(folder / "repository", now_s, thresholds=thresholds)
        (folder / "root.json").write_bytes(self.made.pinned)
        self.now_s = now_s
        self.child: Child = in_process
        self.ca_file: Path | None = None
        self.limits = self.limits_of_a_good_line()
        self.release = self.publish(1)

    @staticmethod
    def limits_of_a_good_line() -> FetchLimits:
        return FetchLimits(seconds=250, stall_s=120, grace_s=120)

    @property
    def state(self) -> Path:
        return self.folder / "state" / "rollout"

    @property
    def url(self) -> str:
        return str(self.made.folder) if self.server is None else self.server.url

    def fetcher(self) -> Fetcher:
        root = self.folder / "root.json"
        return Fetcher(
            self.url,
            root,
            self.state,
            lambda: self.now_s,
            ca_file=self.ca_file,
            limits=self.limits,
            child=lambda request: self.child(request),
        )

    def publish(self, number: int) -> Release:
        """Publish version `number` of the student as release `number`."""
        artifact = self.folder / f"student-{number}"
        self._make(artifact, number)
        self.release = self.made.release(artifact, number)
        self.honest = self.made.copy(self.folder / f"honest-{number}")
        return self.release

    def trusted(self) -> dict[str, int]:
        """Versions of the metadata that the gateway trusts; 0 for what it has not."""
        found = {}
        for role in ("root", "timestamp", "snapshot", "targets"):
            try:
                data = (self.state / "metadata" / f"{role}.json").read_bytes()
                found[role] = int(json.loads(data)["signed"]["version"])
            except (OSError, ValueError):
                found[role] = 0
        return found

    def fetch_with_process(self) -> None:
        """Have the next fetches run in a real child process."""
        self.child = run_child


@contextmanager
def world_of(
    folder: Path,
    transport: str,
    thresholds: dict[str, int] | None = None,
    context: ssl.SSLContext | None = None,
) -> Iterator[World]:
    """A world whose repository is a `folder` or behind the `web`, over TLS with a context."""
    with ExitStack() as stack:
        server = None
        if transport == "web":
            server = stack.enter_context(serving(folder / "repository", context))
        yield World(folder, server, thresholds)
