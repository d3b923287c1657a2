"""The part of InfluxDB's HTTP API for starting it: health and first set-up.

Everything after the set-up (buckets, tasks, tokens) is in `pipeline.stores.influxsetup`.
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
from ingest.secrettext import checked_secret, error_text, hide_secrets

__all__ = ["InfluxApi"]


class InfluxApi:
    """Client of one InfluxDB; it connects directly and ignores proxies of the environment."""

    def __init__(self, url: str, ca_file: Path | None = None) -> None:
        """Prepare; nothing is connected yet.

        Args:
            url: `http://host:port` or `https://host:port`.
            ca_file: PEM file of the authority to trust with https.
        """
        self.url = url
        self._ca_file = ca_file

    def is_healthy(self, timeout_s: float = 1.0) -> bool:
        """Whether `/health` reports `pass` in time."""
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
        """Create organisation, bucket and token on a new InfluxDB; safe to repeat.

        Args:
            org: Name of the organisation.
            bucket: Name of the first bucket.
            token: Token that gets full access.
            retention_s: Seconds that the bucket keeps points; 0 for ever.
            username: Name of the first user.
            password: Password of the first user; None for a random one that is not kept, because
                the token suffices.

        Returns:
            Whether InfluxDB was new.

        Raises:
            ServerError: InfluxDB refused, or was set up with another token or organisation.
        """
        if self.call("GET", "/api/v2/setup")["allowed"]:
            request = {
                "username": username,
                "password": password or secrets.token_urlsafe(24),
                "org": org,
                "bucket": bucket,
                "token": token,
                "retentionPeriodSeconds": retention_s,
            }
            self.call("POST", "/api/v2/setup", request)
            return True
        try:
            found = self.call("GET", f"/api/v2/orgs?org={quote(org)}", token=token)
        except ServerError as exc:
            msg = f"InfluxDB at {self.url} was set up with another token: {error_text(exc)}"
            raise ServerError(msg) from exc
        if not found.get("orgs"):
            msg = f"InfluxDB at {self.url} was set up without an organisation {org!r}"
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
        """Send one JSON request and return the JSON response; an empty response is `{}`.

        Raises:
            ServerError: InfluxDB refused, or did not answer in time.
        """
        headers = {"Content-Type": "application/json"}
        if token:
            headers["Authorization"] = f"Token {checked_secret(token).get_secret_value()}"
        request = urllib.request.Request(  # noqa: S310 (the URL comes from the settings)
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
                reason = hide_secrets(exc.read().decode(errors="replace"))[:500]
            msg = f"InfluxDB refused {method} {path}: {exc.code} {reason}"
            raise ServerError(msg) from exc
        except (OSError, ValueError) as exc:
            msg = f"InfluxDB at {self.url} does not answer {method} {path}: {error_text(exc)}"
            raise ServerError(msg) from exc

    def _opener(self) -> urllib.request.OpenerDirector:
        direct = urllib.request.ProxyHandler({})
        if not self.url.startswith("https:"):
            return urllib.request.build_opener(direct)
        context = ssl.create_default_context(cafile=self._ca_file)
        return urllib.request.build_opener(direct, urllib.request.HTTPSHandler(context=context))
