"""How to install an extra of kpstream that is missing.

kpstream is installed from a clone or a wheel, so a command that names only the package would ask an
index that may not have it. pip records the place in `direct_url.json` (PEP 610).
"""

from __future__ import annotations

import json
import shlex
import sys
from contextlib import suppress
from importlib import metadata
from typing import Any
from urllib.parse import unquote, urlsplit

__all__ = ["install_command"]


def install_command(extra: str) -> str:
    """Return the command that installs an extra into this Python, from where kpstream came from.

    >>> install_command("site").endswith("[site]'")
    True
    """
    origin: dict[str, Any] = {}
    # In a clone, a build's own record of the package may stand before that of pip.
    for installed in metadata.distributions(name="kpstream"):
        with suppress(ValueError):
            origin = origin or json.loads(installed.read_text("direct_url.json") or "{}")
    url, options, wanted = origin.get("url", ""), [], f"kpstream[{extra}]"
    if "dir_info" in origin:
        options = ["--editable"] if origin["dir_info"].get("editable") else []
        wanted = f"{unquote(urlsplit(url).path)}[{extra}]"
    elif url:
        wanted += f" @ {url}"
    return shlex.join([sys.executable, "-m", "pip", "install", *options, wanted])
