"""Grafana's HTTP API: boards, folders, data sources, alert rules, by uid.

The only importer of grafana-api, which is old (2020) and sound where we use it: it sends any
request with the right authentication. What it gets wrong is mended here: empty answers, exceptions
of `requests` that pass through it, names in paths. Everything is addressed by uid: numeric ids are
switched off in newer versions of Grafana.

Works with Grafana 9 to 13. The token is that of a service account with the role Editor, or Admin if
the data source shall be made as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from pydantic import SecretStr

from dashboards.errors import (
    DashboardsError,
    GrafanaConflict,
    GrafanaDenied,
    GrafanaMissing,
    GrafanaRefused,
    GrafanaUnavailable,
)
from dashboards.visuals.views import Json

__all__ = ["GrafanaClient", "Save"]

_FIRST_SAVE = "Initial save"
"""What the list of versions says of the first one, whatever its message was."""


@dataclass(frozen=True, slots=True)
class Save:
    """The last time somebody saved a board.

    Attributes:
        version: its number.
        message: given with it; empty when none was.
        who: login of the user or service account.
        when: as Grafana writes it.
    """

    version: int
    message: str
    who: str
    when: str


class GrafanaClient:
    """One Grafana. Not for several threads."""

    def __init__(
        self, url: str, token: SecretStr, *, timeout_s: float = 10.0, ca_file: str | None = None
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            url: like `https://grafana.example:3000/path`.
            token: of a service account; shown in no message.
            timeout_s: longest wait for connection and answer.
            ca_file: certificates to trust instead of the system's.

        Raises:
            DashboardsError: the URL makes no sense, or grafana-api is not installed.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            msg = f"Grafana's URL {url!r} must look like http://127.0.0.1:3000"
            raise DashboardsError(msg)
        try:
            from grafana_api.grafana_face import GrafanaFace
        except ImportError as exc:
            msg = "grafana-api is missing: pip install 'kpstream[site]'"
            raise DashboardsError(msg) from exc
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        prefix = parts.path.strip("/")
        self.url = f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}"
        self.url += f"/{prefix}" if prefix else ""
        self._face = GrafanaFace(
            auth=token.get_secret_value(),
            host=host,
            port=parts.port,
            url_path_prefix=f"{prefix}/" if prefix else "",
            protocol=parts.scheme,
            verify=ca_file or True,
            timeout=timeout_s,
        )

    def close(self) -> None:
        """Close the connections."""
        self._face.api.s.close()

    # ------------------------------------------------------------------------------------ boards

    def board(self, uid: str) -> tuple[Json, Json] | None:
        """A board and its `meta`; None when there is none."""
        found = self._find(f"/dashboards/uid/{_part(uid)}")
        return None if found is None else (found["dashboard"], found["meta"])

    def last_save(self, uid: str) -> Save | None:
        """Who saved a board last; None when Grafana does not tell us."""
        path = f"/dashboards/uid/{_part(uid)}/versions"
        try:
            found = self._find(f"{path}?limit=1")
        except GrafanaDenied:
            return None
        versions = found.get("versions") if isinstance(found, dict) else found
        if not versions:
            return None
        last = versions[0]
        if last.get("message") == _FIRST_SAVE:
            try:
                last |= self._find(f"{path}/{int(last['version'])}") or {}
            except (GrafanaDenied, GrafanaUnavailable):
                return None
        return Save(
            version=int(last["version"]),
            message=str(last.get("message") or ""),
            who=str(last.get("createdBy") or "somebody"),
            when=str(last.get("created") or ""),
        )

    def save_board(
        self, board: Json, folder_uid: str, message: str, *, version: int | None, force: bool
    ) -> int:
        """Save a board and return its new version.

        Args:
            board: with its uid.
            folder_uid: of the folder it shall be in.
            message: for the list of versions.
            version: the one that this replaces; None: there is none yet.
            force: replace whatever is there.

        Raises:
            GrafanaConflict: it has another version by now, or comes from a provisioning file.
        """
        model = dict(board) | ({} if version is None else {"version": version})
        body = {
            "dashboard": model,
            "folderUid": folder_uid,
            "message": message,
            "overwrite": force,
        }
        return int(self._call("POST", "/dashboards/db", body)["version"])

    def delete_board(self, uid: str) -> None:
        """Remove a board."""
        self._call("DELETE", f"/dashboards/uid/{_part(uid)}")

    # ----------------------------------------------------------------------------------- folders

    def folder(self, uid: str) -> Json | None:
        """A folder; None when there is none."""
        found: Json | None = self._find(f"/folders/{_part(uid)}")
        return found

    def create_folder(self, uid: str, title: str) -> None:
        """Make a folder."""
        self._call("POST", "/folders", {"uid": uid, "title": title})

    def rename_folder(self, uid: str, title: str, version: int) -> None:
        """Give a folder another title."""
        self._call("PUT", f"/folders/{_part(uid)}", {"title": title, "version": version})

    def delete_folder(self, uid: str) -> None:
        """Remove a folder with its boards and alert rules."""
        self._call("DELETE", f"/folders/{_part(uid)}?forceDeleteRules=true")

    # ------------------------------------------------------------------------------ data sources

    def source(self, uid: str) -> Json | None:
        """A data source without its secrets; None when there is none."""
        found: Json | None = self._find(f"/datasources/uid/{_part(uid)}")
        return found

    def create_source(self, source: Json) -> None:
        """Make a data source."""
        self._call("POST", "/datasources", source)

    def update_source(self, source: Json) -> None:
        """Change a data source."""
        self._call("PUT", f"/datasources/uid/{_part(source['uid'])}", source)

    def delete_source(self, uid: str) -> None:
        """Remove a data source."""
        self._call("DELETE", f"/datasources/uid/{_part(uid)}")

    # ------------------------------------------------------------------------------- alert rules

    def group(self, folder_uid: str, name: str) -> Json | None:
        """A group of alert rules; None when there is none."""
        found: Json | None = self._find(_group_path(folder_uid, name))
        return found

    def save_group(self, folder_uid: str, group: Json) -> None:
        """Put a group in place of what it is now; rules that are not in it are removed."""
        self._call("PUT", _group_path(folder_uid, group["title"]), group)

    # ---------------------------------------------------------------------------------- requests

    def _find(self, path: str) -> Any:
        try:
            return self._call("GET", path)
        except GrafanaMissing:
            return None

    def _call(self, method: str, path: str, body: Json | None = None) -> Any:
        """One request.

        Raises:
            DashboardsError: the leaf of its tree that fits.
        """
        from grafana_api.grafana_api import GrafanaException
        from requests.exceptions import JSONDecodeError, RequestException

        what = f"{method} {path.partition('?')[0]}"
        try:
            return getattr(self._face.api, method)(path, json=body)
        except GrafanaException as exc:
            raise _translated(exc.status_code, exc.response, what, self.url) from exc
        except JSONDecodeError as exc:
            if not exc.doc:  # 202, 204: done, nothing to say
                return None
            msg = f"{self.url} answers {what} with something else than JSON; is it Grafana's URL?"
            raise GrafanaRefused(msg) from exc
        except TypeError as exc:  # an error whose body is a number or null
            msg = f"{self.url} refuses {what} in a form that Grafana does not have"
            raise GrafanaRefused(msg) from exc
        except RequestException as exc:
            msg = f"Grafana at {self.url} does not answer {what}: {type(exc).__name__}: {exc}"
            raise GrafanaUnavailable(msg) from exc


def _translated(status: int, response: Any, what: str, url: str) -> DashboardsError:
    said = response.get("message", "") if isinstance(response, dict) else str(response or "")
    text = f"Grafana at {url} answers {what} with {status}: {said or 'no reason given'}"
    if status == 401:
        return GrafanaDenied(f"{text}. Check KPSTREAM_GRAFANA_TOKEN")
    if status == 403:
        return GrafanaDenied(f"{text}. The token's role may not do this, or a file provides it")
    if status == 404:
        return GrafanaMissing(text)
    if status in (409, 412):
        return GrafanaConflict(text)
    if status == 400 and "provisioned" in said.lower():
        return GrafanaConflict(
            f"{text}. A provisioning file owns it: change the file, or remove it"
        )
    if status >= 500 or status == 429:
        return GrafanaUnavailable(text)
    return GrafanaRefused(text)


def _group_path(folder_uid: str, name: str) -> str:
    return f"/v1/provisioning/folder/{_part(folder_uid)}/rule-groups/{_part(name)}"


def _part(name: str) -> str:
    return quote(name, safe="")
