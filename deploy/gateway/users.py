"""Users of the system: the service's own, and mosquitto's."""

from __future__ import annotations

import pwd
from contextlib import suppress

from deploy.gateway.places import USER, Places
from deploy.gateway.steps import Steps

__all__ = ["NOBODY", "make_user", "owner"]

NOBODY = (-1, -1)
"""Leaves user and group of a file as they are."""


def owner(places: Places, name: str) -> tuple[int, int]:
    """User and group of a user's files; `NOBODY` if the system has no such user."""
    if places.is_live:
        with suppress(KeyError):
            found = pwd.getpwnam(name)
            return found.pw_uid, found.pw_gid
        return NOBODY
    with suppress(OSError, ValueError, IndexError):
        for line in (places.root / "etc/passwd").read_text(encoding="utf-8").splitlines():
            fields = line.split(":")
            if fields[0] == name:
                return int(fields[2]), int(fields[3])
    return NOBODY


def make_user(places: Places, steps: Steps, description: str) -> None:
    """Make the user of the service, or describe it for the first boot of an image.

    Args:
        places: Where everything lies.
        steps: Carries out the steps.
        description: Content of the file for systemd-sysusers.
    """
    if owner(places, USER) != NOBODY:
        return
    if not places.is_live:
        steps.write(places.user_file, description)
        return
    steps.say(f"making the user {USER}")
    home, shell = str(places.state), "/usr/sbin/nologin"
    steps.run(
        ["useradd", "--system", "--user-group", "--home-dir", home, "--shell", shell, USER],
        advice="run the installer as root; on Debian useradd is in the package passwd",
    )
