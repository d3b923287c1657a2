"""Who may change something through the console. Pure.

The console has no login, so an acting request has to come from the page itself, opened by somebody
at the machine. Four things are checked beside the host name (`pipeline.console.listener`):

1. **Not another site's page.** A browser names the origin of a request that acts (`Origin`); it has
   to be the host that the request is for. `Sec-Fetch-Site`, where a browser sends it, has to say
   the same. A request without an origin is not from a browser's page and is refused.
2. **Not a form.** The body is `application/json`, which no form of another site can send without
   asking first, and nobody answers such a question (CORS).
3. **From this machine**, unless the setting allows other ones: the peer and the host name are
   loopback, and no proxy has passed the request on.
4. The setting is not `off`.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Literal
from urllib.parse import urlsplit

__all__ = ["Access", "is_loopback", "refusal"]

Access = Literal["loopback", "everywhere", "off"]
"""Values of `KPSTREAM_GATEWAY_CONSOLE_LABELS`."""

_SETTING = "KPSTREAM_GATEWAY_CONSOLE_LABELS"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_PASSED_ON = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")


def refusal(headers: Mapping[str, str], peer: str, access: Access) -> str | None:
    """Return why a request may not act; None: it may.

    >>> own = {"Host": "localhost:8765", "Origin": "http://localhost:8765",
    ...        "Content-Type": "application/json"}
    >>> refusal(own, "127.0.0.1", "loopback")
    >>> refusal(own | {"Origin": "http://example.com"}, "127.0.0.1", "loopback")
    'the request comes from the page http://example.com, not from this console'

    Args:
        headers: Headers of the request; names in any case.
        peer: Address that the connection comes from.
        access: The setting.
    """
    found = {name.lower(): value for name, value in headers.items()}
    host, origin = found.get("host", "").lower(), found.get("origin", "")
    if access == "off":
        return f"labels cannot be given on this page: {_SETTING} is off"
    if not origin:
        return "the request has no Origin: give labels on the page, or with `kpstream label`"
    parts = urlsplit(origin)
    if parts.scheme not in ("http", "https") or parts.netloc.lower() != host:
        return f"the request comes from the page {origin[:200]}, not from this console"
    if found.get("sec-fetch-site", "same-origin") != "same-origin":
        return "the request comes from a page of another site, not from this console"
    if found.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return "the body has to be application/json"
    if access == "loopback" and not (
        is_loopback(peer)
        and (urlsplit(f"//{host}").hostname or "") in _LOOPBACK
        and not any(name in found for name in _PASSED_ON)
    ):
        return (
            "labels can be given on the machine of the gateway only; to change that, set "
            f"{_SETTING}=everywhere, behind a proxy that asks for a login"
        )
    return None


def is_loopback(peer: str) -> bool:
    """Return whether an address is of this machine.

    >>> is_loopback("127.0.0.1"), is_loopback("::ffff:127.0.0.1"), is_loopback("192.168.1.2")
    (True, True, False)
    """
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return address.is_loopback if mapped is None else bool(mapped.is_loopback)
