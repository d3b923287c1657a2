"""`gateway.env`: the settings of the gateway, one `NAME=value` a line.

systemd reads it (`EnvironmentFile`), and so does the shell of the command `kpstream`. A value that
is not plain stands in single quotes, which both understand in the same way. Lines of people and
their comments stay as they are; a setting that is given to the installer replaces its line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from deploy.gateway.errors import InstallError

__all__ = ["console_address", "parse_setting", "read_settings", "with_settings"]

_NAME = re.compile(r"(KPSTREAM_[A-Z0-9_]+|OMP_NUM_THREADS)")
_LINE = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)\s*=(.*)")
_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,=-]*")


def parse_setting(text: str) -> tuple[str, str]:
    """Split `NAME=VALUE` as a person gives it.

    >>> parse_setting("KPSTREAM_GATEWAY_NAME=press-7")
    ('KPSTREAM_GATEWAY_NAME', 'press-7')

    Raises:
        InstallError: It has another form, or the file cannot hold it.
    """
    name, equals, value = text.partition("=")
    if not equals or not _NAME.fullmatch(name):
        msg = f"the setting {name!r} is not KPSTREAM_...=VALUE: docs/settings.md lists the settings"
        raise InstallError(msg)
    if "'" in value or any(ord(character) < 32 for character in value):
        msg = f"the value of {name} holds a quotation mark ' or a control character: remove it"
        raise InstallError(msg)
    return name, value


def read_settings(text: str) -> dict[str, str]:
    r"""Return the settings of a file.

    >>> read_settings("# ours\nKPSTREAM_GATEWAY_NAME='press 7'\n")
    {'KPSTREAM_GATEWAY_NAME': 'press 7'}
    """
    found = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match:
            value = match[2].strip()
            if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
                value = value[1:-1]
            found[match[1]] = value
    return found


def with_settings(text: str, settings: Mapping[str, str]) -> str:
    r"""Return the text of a file with these settings; other lines stay.

    >>> print(with_settings("# ours\nA=1\n", {"A": "x y", "B": "2"}), end="")
    # ours
    A='x y'
    B=2
    """
    missing = dict(settings)
    lines = []
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match and match[1] in settings:
            if match[1] in missing:  # a second line of the name goes
                lines.append(_line(match[1], missing.pop(match[1])))
        else:
            lines.append(line)
    lines += [_line(name, value) for name, value in missing.items()]
    return "".join(f"{line}\n" for line in lines)


def console_address(settings: Mapping[str, str]) -> tuple[str, int]:
    """Return host and port at which the console page of these settings answers.

    Raises:
        InstallError: The port is none, or is picked anew at every start.
    """
    host = settings.get("KPSTREAM_GATEWAY_CONSOLE_HOST", "127.0.0.1")
    port = settings.get("KPSTREAM_GATEWAY_CONSOLE_PORT", "8765")
    if not port.isascii() or not port.isdecimal() or not 0 < int(port) < 65536:
        msg = f"KPSTREAM_GATEWAY_CONSOLE_PORT is {port!r}: set a port from 1 to 65535"
        raise InstallError(msg)
    any_address = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (compared, not bound)
    return any_address.get(host, host), int(port)


def _line(name: str, value: str) -> str:
    return f"{name}={value}" if _PLAIN.fullmatch(value) else f"{name}='{value}'"
