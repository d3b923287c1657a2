"""A bundle on its way to a host: resumed where it was cut off, and compared by its digest."""

from __future__ import annotations

import hashlib
import re
import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path

from deploy.fleet.errors import HostFailed
from deploy.fleet.inventory import Host
from deploy.fleet.ssh import Ssh, one_line
from deploy.gateway.bundle import Bundle, open_bundle

__all__ = ["Packed", "pack_of", "upload"]

_CHUNK = 1024**2
_LOOK = """
mkdir -p {folder} && cd {folder} || exit 1
if [ -f bundle.tar ]; then sha256sum bundle.tar; else stat -c %s part 2>/dev/null || echo 0; fi
"""
# A connection that ends looks like the end of the file, so only the digest says that it is whole.
_TAKE = """
cd {folder} && cat {into} part || exit 1
[ "$(sha256sum part | cut -d ' ' -f 1)" = {sha256} ] && mv part bundle.tar && exit
[ "$(stat -c %s part)" -lt {size} ] && echo cut && exit
rm part && echo differs
"""


@dataclass(frozen=True, slots=True)
class Packed:
    """A verified bundle as the file that is sent.

    Attributes:
        path: The archive.
        bundle: What is in it.
        sha256: Digest of the archive.
        size: Its size in bytes.
    """

    path: Path
    bundle: Bundle
    sha256: str
    size: int

    @property
    def folder(self) -> str:
        """Its folder on a host, below the home of the user."""
        return f".cache/kpstream-fleet/{self.sha256[:16]}"


def pack_of(path: Path) -> Packed:
    """Verify a bundle before it is sent anywhere.

    Raises:
        InstallError: It is damaged.
        OSError: It cannot be read.
    """
    with tempfile.TemporaryDirectory() as scratch:
        bundle = open_bundle(path, Path(scratch) / "bundle")
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return Packed(path, bundle, digest.hexdigest(), path.stat().st_size)


def upload(ssh: Ssh, host: Host, packed: Packed) -> int:
    """Bring a bundle to a host, unless it is there; returns how many bytes were sent.

    Raises:
        HostFailed: The connection broke, the disk is full, or the copy differs.
    """
    folder = shlex.quote(packed.folder)
    there = ssh.script(host, _LOOK.format(folder=folder))
    if there.code:
        msg = f"{packed.folder} cannot be made: {one_line(there.err)}"
        raise HostFailed(msg)
    said = one_line(there.out)
    if said.startswith(packed.sha256):
        return 0
    offset = int(said) if re.fullmatch(r"[0-9]{1,15}", said) else 0
    offset = offset if offset < packed.size else 0
    with packed.path.open("rb", buffering=0) as file:
        file.seek(offset)
        into = ">>" if offset else ">"
        script = _TAKE.format(folder=folder, into=into, sha256=packed.sha256, size=packed.size)
        done = ssh.script(host, script, sent=file)
    if done.code:
        msg = f"the copy stopped: {one_line(done.err)}; free some disk, then run it again"
        raise HostFailed(msg)
    if done.out:
        how = "is cut off" if one_line(done.out) == "cut" else "differs and was removed"
        msg = f"the copy of the bundle {how}: run the same command again"
        raise HostFailed(msg)
    return packed.size - offset
