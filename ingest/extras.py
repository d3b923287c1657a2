"""How to install an extra of kpstream that is missing.

kpstream is installed from a clone or a wheel, so a command that names only the package would ask an
index that may not have it. pip records the place in `direct_url.json` (PEP 610).
"""

from __future__ import annotations

import json
import shlex
import sys
from importlib import metadata
from urllib.parse import unquote, urlsplit

__all__ = ["install_command"]


def install_command(extra: str) -> str:
    """Return the command that installs an extra into this Python, from where kpstream came from.

    >>> install_command("site").endswith("[site]'")
    True
    """
    try:
        record = metadata.distribution("kpstream").read_text("direct_url.json")
        origin = json.loads(record) if record else {}
    except (metadata.PackageNotFoundError, ValueError):
        origin = {}
    url, options, wanted = origin.get("url", ""), [], f"kpstream[{extra}]"
    if "dir_info" in origin:
        options = ["--editable"] if origin["dir_info"].get("editable") else []
        wanted = f"{unquote(urlsplit(url).path)}[{extra}]"
    elif url:
        wanted += f" @ {url}"
    return shlex.join([sys.executable, "-m", "pip", "install", *options, wanted])
