"""Checks of the machine: packages, settings, clock, disk and memory."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from importlib import metadata
from importlib.machinery import EXTENSION_SUFFIXES, PathFinder
from pathlib import Path

from deploy.doctor.findings import Finding, size_text
from deploy.settings.stateaccess import state_access
from ingest.clock import machine_ms
from ingest.extras import install_command
from ingest.secrettext import error_text

__all__ = [
    "check_access",
    "check_clock",
    "check_disk",
    "check_environment",
    "check_memory",
    "check_packages",
    "faust_kind",
]

_MIB = 1024 * 1024
_EPOCH_2025_S = 1_735_689_600
_FAUST_COMPILED = (
    "_cython/streams",
    "_cython/windows",
    "models/_cython/fields",
    "transport/_cython/conductor",
)


def _concerns_this_python(need: str) -> bool:
    """Whether a requirement applies here, by a marker like `python_version < "3.11"`."""
    asked = re.search(r'python_version < "(\d+)\.(\d+)"', _quotes(need))
    return asked is None or sys.version_info[:2] < (int(asked[1]), int(asked[2]))


def check_packages(extra: str = "gateway") -> list[Finding]:
    """Check that the packages of an extra are installed; report their versions."""
    install = install_command(extra)
    try:
        version, needs = metadata.version("kpstream"), metadata.requires("kpstream") or []
    except metadata.PackageNotFoundError:
        return [Finding("packages", "fail", "kpstream is not installed", install)]
    wanted = [need for need in needs if "extra ==" not in need or f'"{extra}"' in _quotes(need)]
    found, missing = {}, []
    for need in filter(_concerns_this_python, wanted):
        name = re.split(r"[^A-Za-z0-9._-]", need, maxsplit=1)[0]
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return [Finding("packages", "fail", f"not installed: {', '.join(missing)}", install)]
    kinds = {"faust-streaming": f" ({faust_kind(os.environ)})"}
    text = f"Python {platform.python_version()}, kpstream {version}, " + ", ".join(
        f"{name} {found[name]}{kinds.get(name, '')}"
        for name in ("faust-streaming", "onnxruntime", "numpy", "paho-mqtt")
    )
    if not found["faust-streaming"].startswith("0.15."):
        advice = "the log's transport requires faust-streaming 0.15: " + install
        return [Finding("packages", "fail", text, advice)]
    return [Finding("packages", "ok", text)]


def faust_kind(environ: Mapping[str, str], package: Path | None = None) -> str:
    """Whether Faust runs with its compiled parts: a build without a compiler leaves them out.

    Args:
        environ: The environment; Faust leaves its compiled parts unused if `NO_CYTHON` is set.
        package: Folder of Faust; None for the installed one. It is not imported.

    Returns:
        `compiled`, `pure Python`, or what is unusual about it.
    """
    if package is None:
        spec = PathFinder.find_spec("faust")  # an imported Faust hides its own spec
        if spec is None or not spec.submodule_search_locations:
            return "its folder is not found"
        package = Path(spec.submodule_search_locations[0])
    here = [
        any(Path(f"{package / part}{end}").is_file() for end in EXTENSION_SUFFIXES)
        for part in _FAUST_COMPILED
    ]
    if not any(here):
        return "pure Python"
    if not all(here):
        return "compiled in part only"
    return "compiled, but NO_CYTHON is set" if environ.get("NO_CYTHON") else "compiled"


def check_environment(known: Sequence[str], environ: Mapping[str, str]) -> list[Finding]:
    """Report the settings in the environment, and KPSTREAM_* variables that are no setting.

    Args:
        known: Names of all settings.
        environ: The environment.
    """
    present = sorted(name for name in environ if name.upper().startswith("KPSTREAM_"))
    read = set(known) | {"KPSTREAM_TEST_DATA", "KPSTREAM_TEST_SITE", "KPSTREAM_REQUIRE"}
    unknown = [name for name in present if name.upper() not in read]
    if unknown:
        advice = "correct the name (docs/settings.md lists all) or unset it"
        text = f"unknown settings: {', '.join(unknown)}"
        return [Finding("settings", "warn", text, advice)]
    text = f"set in the environment: {', '.join(present)}" if present else "all at their defaults"
    return [Finding("settings", "ok", text)]


def check_clock(
    wall: Callable[[], float] = lambda: machine_ms() / 1000,
    steady: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
    is_synchronised: Callable[[], bool | str] | None = None,
) -> list[Finding]:
    """Check that the wall clock is set, does not jump, and is synchronised by NTP.

    Args:
        wall: Wall clock, epoch seconds.
        steady: Monotonic clock, seconds.
        pause: Waits some seconds between two readings of the clocks.
        is_synchronised: Returns whether NTP synchronises the clock, or why that is not known; by
            default it asks timedatectl.
    """
    wall_s, steady_s = wall(), steady()
    pause(0.1)
    jump_s = (wall() - wall_s) - (steady() - steady_s)
    when = f"{datetime.fromtimestamp(wall(), timezone.utc):%Y-%m-%d %H:%M:%S} UTC"
    set_it = "set it (timedatectl set-ntp true); messages wait until then"
    if wall() < _EPOCH_2025_S:
        text = f"it is {when}: the clock was never set, so messages wait in the broker"
        return [Finding("clock", "fail", text, set_it)]
    if abs(jump_s) > 0.5:
        text = f"the clock jumped by {jump_s:+.1f} s within 0.1 s"
        return [
            Finding(
                "clock",
                "fail",
                text,
                "find the program that sets it, for example a second time service",
            )
        ]
    synchronised = (is_synchronised or _ntp)()
    if synchronised is False:
        return [Finding("clock", "warn", f"{when}, not synchronised by NTP", set_it)]
    if synchronised is True:
        return [Finding("clock", "ok", f"{when}, synchronised")]
    text = f"{when}; cannot tell whether NTP synchronises it: {synchronised}"
    return [Finding("clock", "unknown", text, "make sure that a time service sets this clock")]


def check_disk(folder: Path) -> list[Finding]:
    """Check free space, free inodes and permission for the state folder."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    usage, status = shutil.disk_usage(there), os.statvfs(there)
    text = f"{size_text(usage.free)} of {size_text(usage.total)} free for {folder}"
    is_writable = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    if not is_writable and there == folder and there.stat().st_uid != os.geteuid():
        text = f"cannot tell: {there} belongs to another user, and this one may not write to it"
        return [Finding("disk", "unknown", text, "run doctor as the gateway's user")]
    if not is_writable:
        advice = "give the folder to the gateway's user, or set KPSTREAM_GATEWAY_STATE_DIR"
        return [Finding("disk", "fail", f"{there} is not writable by this user", advice)]
    if status.f_files and status.f_favail < 1000:
        text = f"{status.f_favail} inodes left for {folder}"
        return [Finding("disk", "fail", text, "delete small files that are not needed")]
    if usage.free < 256 * _MIB:
        advice = (
            "free some space: below 256 MiB the log refuses readings and the broker must queue them"
        )
        return [Finding("disk", "fail", text, advice)]
    if usage.free < 2048 * _MIB:
        advice = "log and results may need 2.5 GB: lower KPSTREAM_GATEWAY_LOG_MAX_MB, or free space"
        return [Finding("disk", "warn", text, advice)]
    return [Finding("disk", "ok", text)]


def check_access(folder: Path) -> list[Finding]:
    """Check that no other user may enter the state folder; nothing to say before it exists."""
    if not folder.is_dir():
        return []
    access = state_access(folder)
    if access is None:
        return [Finding("access", "ok", f"{folder} is open to its owner only")]
    return [Finding("access", "fail" if access.is_refused else "warn", access.text, access.advice)]


def check_memory(available_bytes: int | None = None) -> list[Finding]:
    """Check the memory available for a gateway, which needs about 150 MB."""
    if available_bytes is None:
        import psutil

        available_bytes = psutil.virtual_memory().available
    text = f"{size_text(available_bytes)} available"
    if available_bytes < 64 * _MIB:
        return [Finding("memory", "fail", text, "stop other programs: a gateway needs 150 MB")]
    if available_bytes < 256 * _MIB:
        return [Finding("memory", "warn", text, "a gateway needs 150 MB")]
    return [Finding("memory", "ok", text)]


def _ntp() -> bool | str:
    """Whether NTP synchronises the clock; or why that is not known."""
    program = shutil.which("timedatectl")
    if program is None:
        return "timedatectl is not installed"
    try:
        done = subprocess.run(  # noqa: S603 (a fixed command)
            [program, "show", "--property=NTPSynchronized", "--value"],
            capture_output=True,
            text=True,
            timeout=3,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "timedatectl has not answered for 3 s"
    except OSError as exc:
        return f"timedatectl does not start ({error_text(exc)})"
    said = (done.stdout.strip() or done.stderr.strip() or "nothing").splitlines()[0][:100]
    known: bool | None = {"yes": True, "no": False}.get(said)
    return f"timedatectl says {said!r}" if known is None else known


def _quotes(text: str) -> str:
    return text.replace("'", '"')
