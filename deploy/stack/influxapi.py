"""The little of InfluxDB's HTTP API that starting it needs: health and first set-up.

Everything after that (buckets, tasks, tokens) is in `pipeline.stores.influxsetup`.
"""

from __future__ import annotations

import json
import secrets
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from deploy.stack.process import ServerError

__all__ = ["InfluxApi"]


class InfluxApi:
    """One InfluxDB, by its URL; asked directly, whatever proxies the environment names."""

    def __init__(self, url: str, ca_file: Path | None = None) -> None:
        """Prepare; nothing is asked yet.

        Args:
            url: `http://host:port` or https.
            ca_file: PEM file of the authority to trust, with https.
        """
        self.url = url
        self._ca_file = ca_file

    def is_healthy(self, timeout_s: float = 1.0) -> bool:
        """Whether `/health` says `pass` within the time."""
        try:
            return bool(self.call("GET", "/health", timeout_s=timeout_s).get("status") == "pass")
        except ServerError:
            return False

    def setup(
        self,
        org: str,
        bucket: str,
        token: str,
        *,
        retention_s: int = 0,
        username: str = "kpstream",
        password: str | None = None,
    ) -> bool:
        """Make organisation, bucket and token where nothing was set up yet; safe to repeat.

        Args:
            org: Name of the organisation.
            bucket: Name of the first bucket.
            token: What may do everything from then on.
            retention_s: Seconds that the bucket keeps points; 0 for ever.
            username: Of the first user.
            password: Of the first user; None: a random one nobody knows (the token rules).

        Returns:
            Whether there was something to set up.

        Raises:
            ServerError: It refused, or was set up before with another token or organisation.
        """
        if self.call("GET", "/api/v2/setup")["allowed"]:
            wishes = {
                "username": username,
                "password": password or secrets.token_urlsafe(24),
                "org": org,
                "bucket": bucket,
                "token": token,
                "retentionPeriodSeconds": retention_s,
            }
            self.call("POST", "/api/v2/setup", wishes)
            return True
        try:
            found = self.call("GET", f"/api/v2/orgs?org={quote(org)}", token=token)
        except ServerError as exc:
            msg = f"InfluxDB at {self.url} was set up before, not with this token: {exc}"
            raise ServerError(msg) from exc
        if not found.get("orgs"):
            msg = f"InfluxDB at {self.url} was set up before, without an organisation {org!r}"
            raise ServerError(msg)
        return False

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        token: str = "",
        timeout_s: float = 10.0,
    ) -> dict[str, Any]:
        """One request, JSON both ways; an empty answer is `{}`.

        Raises:
            ServerError: It refused, or nobody answered within the time.
        """
        headers = {"Content-Type": "application/json"}
        if token:
            headers["Authorization"] = f"Token {token}"
        request = urllib.request.Request(  # noqa: S310 (an address of the settings)
            self.url + path,
            data=None if body is None else json.dumps(body).encode(),
            headers=headers,
            method=method,
        )
        try:
            with self._opener().open(request, timeout=timeout_s) as answer:
                page: dict[str, Any] = json.loads(answer.read() or b"{}")
                return page
        except urllib.error.HTTPError as exc:
            with exc:
                said = exc.read().decode(errors="replace")[:500]
            msg = f"InfluxDB refused {method} {path}: {exc.code} {said}"
            raise ServerError(msg) from exc
        except (OSError, ValueError) as exc:
            msg = f"InfluxDB at {self.url} does not answer {method} {path}: {exc}"
            raise ServerError(msg) from exc

    def _opener(self) -> urllib.request.OpenerDirector:
        direct = urllib.request.ProxyHandler({})
        if not self.url.startswith("https:"):
            return urllib.request.build_opener(direct)
        context = ssl.create_default_context(cafile=self._ca_file)
        return urllib.request.build_opener(direct, urllib.request.HTTPSHandler(context=context))
