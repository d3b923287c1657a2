"""One pass over the fleet: look at each host, decide, install, remember."""

from __future__ import annotations

import hashlib
import json
import logging
import shlex
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from deploy.fleet.errors import HostFailed, InventoryInvalid
from deploy.fleet.inventory import Host, Inventory
from deploy.fleet.ssh import Ssh, one_line
from deploy.fleet.upload import Packed, pack_of, upload
from deploy.gateway.errors import FellBack, InstallError
from ingest.clock import now_ms
from ingest.statefile import StateFileUnusable, read_object, write_object

__all__ = ["Outcome", "Pass", "Result"]

log = logging.getLogger(__name__)

Outcome = Literal["installed", "unchanged", "would install", "failed", "fell back"]

_LOOK = """
uname -m
{python} -I -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || echo none
if [ "$(id -u)" = 0 ]; then echo root
elif sudo -n true 2>/dev/null; then echo sudo
else echo none
fi
cat /opt/kpstream/current/version.json 2>/dev/null || echo '{{}}'
"""
_INSTALL = """
cd {folder} || exit 1
rm -rf unpacked && mkdir unpacked && tar -xf bundle.tar -C unpacked || exit 1
installer=$(find unpacked -maxdepth 2 -name install.sh | head -n 1)
[ -n "$installer" ] || {{ echo "the bundle has no install.sh" >&2; exit 1; }}
{sudo}env PYTHON={python} bash "$installer" install --settings - 2>&1
code=$?
cd / && [ "$code" != 0 ] || rm -rf "$HOME"/{folder}
exit "$code"
"""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one host.

    Attributes:
        name: Its name.
        address: Its address.
        outcome: What was done.
        detail: Version, or why it failed.
    """

    name: str
    address: str
    outcome: Outcome
    detail: str

    @property
    def is_failed(self) -> bool:
        """Whether the host does not run what it should."""
        return self.outcome in ("failed", "fell back")


@dataclass(frozen=True, slots=True)
class _Look:
    machine: str
    python: str
    rights: str
    version: str
    digest: str


class Pass:
    """Installs on every host of an inventory that needs it."""

    def __init__(
        self, inventory: Inventory, ssh: Ssh, state_file: Path, *, dry_run: bool = False
    ) -> None:
        """Verify the bundles and read what earlier passes have done.

        Args:
            inventory: The hosts.
            ssh: Runs commands on them.
            state_file: Remembers which host has what.
            dry_run: Only look.

        Raises:
            InventoryInvalid: A bundle is damaged.
        """
        self._inventory = inventory
        self._ssh = ssh
        self._state_file = state_file
        self._dry_run = dry_run
        self._lock = threading.Lock()
        self._done = _read_state(state_file)
        paths = {path for host in inventory.hosts for path in host.bundles}
        self._packed = {path: _packed(path) for path in sorted(paths)}

    def run(
        self, *, parallel: int = 8, on_result: Callable[[Result], None] = lambda _: None
    ) -> list[Result]:
        """Visit every host; returns the results in the order of the inventory.

        Args:
            parallel: Most hosts at a time.
            on_result: Called with each result as it comes.
        """
        found: dict[str, Result] = {}
        with ThreadPoolExecutor(max_workers=parallel) as pool:
            waiting = [pool.submit(self._visit, host) for host in self._inventory.hosts]
            try:
                for future in as_completed(waiting):
                    result = future.result()
                    found[result.name] = result
                    on_result(result)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return [found[host.name] for host in self._inventory.hosts]

    def _visit(self, host: Host) -> Result:
        try:
            outcome, detail = self._bring_up(host)
        except FellBack as exc:
            outcome, detail = "fell back", str(exc)
        except (HostFailed, OSError) as exc:
            outcome, detail = "failed", str(exc)
        return Result(host.name, host.address, outcome, detail)

    def _bring_up(self, host: Host) -> tuple[Outcome, str]:
        look = self._look(host)
        packed = self._choose(host, look)
        version = packed.bundle.version
        wanted = _wanted(host, packed)
        if self._done.get(host.name) == wanted and look.digest == packed.bundle.digest:
            return "unchanged", f"version {version}"
        before = f" over {look.version}" if look.version else ""
        if self._dry_run:
            return "would install", f"version {version}{before}, {packed.size / 1e6:.0f} MB"
        upload(self._ssh, host, packed)
        self._install(host, look, packed)
        self._remember(host.name, wanted)
        return "installed", f"version {version}{before}"

    def _look(self, host: Host) -> _Look:
        answer = self._ssh.script(host, _LOOK.format(python=shlex.quote(host.python)))
        lines = answer.out.splitlines()
        if answer.code or len(lines) < 4:
            msg = f"its shell gave an unexpected answer: {one_line(answer.err or answer.out)}"
            raise HostFailed(msg)
        machine, python, rights = lines[:3]
        installed = _json("".join(lines[3:]))
        if python == "none":
            msg = f"it has no {host.python}: install it, or name another one as python"
            raise HostFailed(msg)
        if rights == "none":
            msg = (
                f"{host.user or 'the user'} may not use sudo without a password: allow it, or "
                "connect as root"
            )
            raise HostFailed(msg)
        version, digest = installed.get("version", ""), installed.get("digest", "")
        return _Look(machine, python, rights, one_line(str(version)), str(digest))

    def _choose(self, host: Host, look: _Look) -> Packed:
        for path in host.bundles:
            packed = self._packed[path]
            if (packed.bundle.machine, packed.bundle.python) == (look.machine, look.python):
                return packed
        msg = (
            f"no bundle is for {one_line(look.machine)} and Python {one_line(look.python)}: add "
            "one to bundles"
        )
        raise HostFailed(msg)

    def _install(self, host: Host, look: _Look, packed: Packed) -> None:
        script = _INSTALL.format(
            folder=shlex.quote(packed.folder),
            sudo="sudo -n " if look.rights == "sudo" else "",
            python=shlex.quote(host.python),
        )
        lines = "".join(f"{name}='{value}'\n" for name, value in host.settings.items())
        answer = self._ssh.script(host, script, sent=lines.encode())
        said = one_line(answer.out or answer.err).removeprefix("install.sh: ")
        if answer.code == FellBack.exit_code:
            raise FellBack(said)
        if answer.code:
            msg = f"the installer ended with exit code {answer.code}: {said}"
            raise HostFailed(msg)

    def _remember(self, name: str, wanted: str) -> None:
        with self._lock:
            self._done[name] = wanted
            hosts = {"format": 1, "at_ms": now_ms(), "hosts": dict(self._done)}
            write_object(self._state_file, hosts)


def _wanted(host: Host, packed: Packed) -> str:
    """Digest of everything that a host should have."""
    text = json.dumps([packed.bundle.digest, host.python, sorted(host.settings.items())])
    return hashlib.sha256(text.encode()).hexdigest()


def _packed(path: Path) -> Packed:
    try:
        return pack_of(path)
    except InstallError as exc:
        msg = f"{path} cannot be used: {exc}"
        raise InventoryInvalid(msg) from exc


def _read_state(path: Path) -> dict[str, str]:
    try:
        found = read_object(path) or {}
    except StateFileUnusable as exc:
        log.warning("%s; every host is looked at anew", exc)
        return {}
    hosts = found.get("hosts")
    if found.get("format") != 1 or not isinstance(hosts, dict):
        return {}
    return {str(name): str(wanted) for name, wanted in hosts.items()}


def _json(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
