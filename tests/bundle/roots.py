"""Clean roots of Debian 12, and commands in them without any network."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["RootMissing", "copy_of", "make_root", "run_in"]

DEBIAN_NAMES = {"x86_64": "amd64", "aarch64": "arm64"}
PACKAGES = ("python3", "python3-venv", "mosquitto")
MIRROR = "http://deb.debian.org/debian"


class RootMissing(Exception):
    """A root cannot be made here; the message says what to install."""


def make_root(machine: str, folder: Path) -> Path:
    """Return a clean root for a machine; the first call makes it, in two to six minutes.

    Raises:
        RootMissing: This machine cannot make it, or cannot run it.
    """
    if os.geteuid() != 0:
        msg = "a clean root needs root: run as root"
        raise RootMissing(msg)
    if shutil.which("debootstrap") is None:
        msg = "debootstrap is not installed: apt-get install debootstrap"
        raise RootMissing(msg)
    emulator = Path(f"/proc/sys/fs/binfmt_misc/qemu-{machine}")
    if machine != platform.machine() and not emulator.is_file():
        msg = (
            f"programs for {machine} do not run here: apt-get install qemu-user-static "
            "binfmt-support; mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc; "
            f"update-binfmts --enable qemu-{machine}"
        )
        raise RootMissing(msg)
    root = folder / f"bookworm-{DEBIAN_NAMES[machine]}"
    if not root.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        making = root.with_suffix(".making")
        shutil.rmtree(making, ignore_errors=True)
        command = ["debootstrap", "--variant=minbase", f"--arch={DEBIAN_NAMES[machine]}"]
        command += [f"--include={','.join(PACKAGES)}", "bookworm", str(making), MIRROR]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        making.rename(root)
    return root


@contextmanager
def copy_of(root: Path, folder: Path) -> Iterator[Path]:
    """Copy a root to work in; the copy is removed at the end."""
    subprocess.run(["cp", "-a", str(root), str(folder)], check=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def run_in(root: Path, command: Sequence[str], timeout_s: float = 3600) -> str:
    """Run a command in a root as its only processes, with a loopback interface and no other.

    Returns:
        Its standard output.
    """
    inside = f"ip link set lo up && mount -t proc proc {root}/proc && exec chroot {root} "
    inside += 'env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 "$@"'
    alone = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child"]
    shown = subprocess.run(
        [*alone, "sh", "-euc", inside, "sh", *command],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=timeout_s,
    )
    return shown.stdout
