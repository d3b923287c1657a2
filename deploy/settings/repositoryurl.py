"""Where the repository of a centre is: one rule for the setting and for the program."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from ingest.tcp import is_loopback

__all__ = ["repository_url"]


def repository_url(url: str) -> str:
    """Check where a repository is, and return it as a URL.

    Args:
        url: `https://`, `http://` on this machine only, `file://`, or the path of a folder.

    Raises:
        ValueError: It is none of these.

    >>> repository_url("https://centre.example/repository/")
    'https://centre.example/repository'
    >>> repository_url("/media/usb/repository")
    'file:///media/usb/repository'
    """
    if url.startswith("/"):
        return Path(url).as_uri()
    parts = urlsplit(url)
    host = parts.hostname or ""
    is_folder = parts.scheme == "file" and not parts.netloc and parts.path.startswith("/")
    is_safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))
    if not (is_folder or (host and is_safe)) or parts.query or parts.fragment:
        msg = (
            "use https://HOST/PATH, http:// on this machine only, or the absolute path of a folder"
        )
        raise ValueError(msg)
    return url.rstrip("/")
