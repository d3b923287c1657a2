"""Bring Grafana to a site, tell how it differs, or fetch what it has.

`compare` looks at everything once and changes nothing; `push` compares and then writes what
differs. Doing it twice changes nothing the second time.

A board is the same when the last who saved it was a push of these very lines: the push writes their
digest into the list of versions. So it does not matter what a newer Grafana adds to a board when it
reads it. A board that somebody else saved is compared by its content, and is not overwritten unless
forced: `push` refuses before it has written anything, and Grafana keeps every version anyway.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import SecretStr

from dashboards.alerts.alert import Group
from dashboards.errors import GrafanaConflict, GrafanaMissing
from dashboards.grafana.client import GrafanaClient, Save
from dashboards.grafana.provision import canonical, write
from dashboards.site import SiteDashboards
from dashboards.visuals.views import Json

__all__ = ["Difference", "State", "compare", "pull", "push"]

State = Literal["same", "missing", "different"]

_PUSHED = "kpstream push "
_OF_THE_SERVER = ("id", "version")
_RULE_OF_THE_SERVER = ("id", "orgID", "updated", "provenance")
_RULE_OPTIONS = ("notification_settings", "record")
_TOKEN_DIGEST = "kpstreamTokenDigest"  # noqa: S105 (a name)


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing of the site, compared with Grafana.

    Attributes:
        kind: `data source`, `folder`, `board` or `alerts`.
        name: its uid; of alerts the group.
        state: what was found.
        lines: a unified diff from Grafana's to ours; empty when there is none to show.
        other_save: who else changed it since our last push; a push needs force then.
        put: writes ours; True forces.
    """

    kind: str
    name: str
    state: State
    lines: tuple[str, ...]
    other_save: str
    put: Callable[[bool], None]

    def __str__(self) -> str:
        words = {"same": "as it should be", "missing": "not there", "different": "differs"}
        return f"{self.kind} {self.name}: {words[self.state]}" + (
            f" ({self.other_save})" if self.other_save else ""
        )


def compare(
    client: GrafanaClient, site: SiteDashboards, source_token: SecretStr | None = None
) -> list[Difference]:
    """Everything of the site, in the order in which it has to be made.

    Args:
        client: of the Grafana.
        site: what there shall be.
        source_token: InfluxDB's token for the data source; None: the data source is not ours to
            make, it only has to be there.

    Raises:
        GrafanaMissing: there is no data source, and no token to make it with.
    """
    return [
        _source(client, site, source_token),
        _folder(client, site),
        *(_board(client, site, uid) for uid in site.boards),
        *(_group(client, site, group) for group in site.groups),
    ]


def push(
    client: GrafanaClient,
    site: SiteDashboards,
    source_token: SecretStr | None = None,
    *,
    force: bool = False,
) -> Iterator[Difference]:
    """Make what is missing and change what differs; yields everything, once it is right.

    Raises:
        GrafanaConflict: somebody else changed a board, and `force` is not set: then nothing was
            written. Or it happened in this moment, or a provisioning file owns it.
    """
    found = compare(client, site, source_token)
    other_save = [str(item) for item in found if item.other_save and item.state == "different"]
    if other_save and not force:
        msg = (
            "changed in Grafana since the last push:\n  " + "\n  ".join(other_save) + "\n"
            "Nothing was written. `kpstream dashboards diff` shows the changes, `pull` keeps them "
            "as JSON, `push --force` overwrites them (Grafana keeps the old versions)"
        )
        raise GrafanaConflict(msg)
    for item in found:
        if item.state != "same":
            try:
                item.put(force)
            except GrafanaConflict as exc:
                msg = f"{item.kind} {item.name} was not written: {exc}. {_ADVICE}"
                raise GrafanaConflict(msg) from exc
        yield item


_ADVICE = (
    "If somebody saved it just now, look at `kpstream dashboards diff` and push again; "
    "`--force` overwrites it. If a provisioning file owns it, push to it by files only"
)


def pull(client: GrafanaClient, site: SiteDashboards, folder: Path) -> list[Path]:
    """Write what Grafana has of the site's boards and alerts, normalised, as JSON.

    Returns:
        The files of `json/` and `alerts/` that are new or changed.
    """
    files: dict[str, str] = {}
    for uid in site.boards:
        found = client.board(uid)
        if found is not None:
            files[f"json/{uid}.json"] = canonical(_own(found[0]))
    for group in site.groups:
        theirs = client.group(site.folder_uid, group.name)
        if theirs is not None:
            rules = [_without(rule, _RULE_OF_THE_SERVER) for rule in theirs["rules"]]
            name = group.name.replace(" ", "-")
            files[f"alerts/{name}.json"] = canonical(theirs | {"rules": rules})
    return write(files, folder)


# ------------------------------------------------------------------------------------- comparing


def _board(client: GrafanaClient, site: SiteDashboards, uid: str) -> Difference:
    ours = site.board_json(uid)
    message = _PUSHED + _digest(canonical(ours))

    def put(force: bool) -> None:
        client.save_board(ours, site.folder_uid, message, version=version, force=force)

    found = client.board(uid)
    version: int | None = None
    if found is None:
        return Difference("board", uid, "missing", (), "", put)
    theirs, meta = found
    version = int(theirs.get("version", 0))
    moved = str(meta.get("folderUid") or "") != site.folder_uid
    save = client.last_save(uid)
    if save is not None and save.version == version and save.message == message:
        lines: tuple[str, ...] = ()
    else:
        lines = _diff(_own(theirs), ours, uid)
    if moved:
        lines = (f"in folder {meta.get('folderUid') or 'root'!r} instead of our own", *lines)
    state: State = "different" if lines else "same"
    return Difference("board", uid, state, lines, _other_save(save), put)


def _other_save(save: Save | None) -> str:
    if save is None or save.message.startswith(_PUSHED):
        return ""
    return f"version {save.version} was saved by {save.who} at {save.when}"


def _group(client: GrafanaClient, site: SiteDashboards, group: Group) -> Difference:
    ours = site.group_json(group)

    def put(_force: bool) -> None:
        client.save_group(site.folder_uid, ours)

    theirs = client.group(site.folder_uid, group.name)
    if theirs is None:
        return Difference("alerts", group.name, "missing", (), "", put)
    lines = _diff(_group_of(theirs, ours), _group_of(ours, ours), group.name)
    return Difference("alerts", group.name, "different" if lines else "same", lines, "", put)


def _group_of(group: Json, ours: Json) -> Json:
    """What we compare: what we say of a rule, and options that would change what it does."""
    wanted = (set(ours["rules"][0]) | set(_RULE_OPTIONS)) - set(_RULE_OF_THE_SERVER)
    rules = [
        {key: rule[key] for key in wanted if rule.get(key) not in (None, "", [], {})}
        for rule in group["rules"]
    ]
    return {
        "interval": group["interval"],
        "rules": sorted(rules, key=lambda rule: str(rule.get("uid"))),
    }


def _folder(client: GrafanaClient, site: SiteDashboards) -> Difference:
    uid, title = site.folder_uid, site.folder_title
    theirs = client.folder(uid)

    def put(_force: bool) -> None:
        if theirs is None:
            client.create_folder(uid, title)
        else:
            client.rename_folder(uid, title, int(theirs.get("version", 1)))

    if theirs is None:
        return Difference("folder", uid, "missing", (), "", put)
    lines = _diff({"title": theirs["title"]}, {"title": title}, uid)
    return Difference("folder", uid, "different" if lines else "same", lines, "", put)


def _source(client: GrafanaClient, site: SiteDashboards, token: SecretStr | None) -> Difference:
    uid = site.source.uid
    theirs = client.source(uid)
    if token is None:
        if theirs is None:
            msg = (
                f"Grafana has no data source with the uid {uid}, and no token to make it: set "
                "KPSTREAM_GRAFANA_INFLUX_TOKEN (may read the buckets), or make it by hand"
            )
            raise GrafanaMissing(msg)
        return Difference("data source", uid, "same", (), "", lambda _force: None)
    ours = site.source.json()
    ours["jsonData"][_TOKEN_DIGEST] = _digest(f"{uid} {token.get_secret_value()}")

    def put(_force: bool) -> None:
        body = ours | {"secureJsonData": {"token": token.get_secret_value()}}
        if theirs is None:
            client.create_source(body)
        else:
            kept = {"isDefault": bool(theirs.get("isDefault"))}
            body["jsonData"] = theirs["jsonData"] | ours["jsonData"]
            client.update_source(body | kept)

    if theirs is None:
        return Difference("data source", uid, "missing", (), "", put)
    lines = _diff(_as_ours(theirs, ours), ours, uid)
    return Difference("data source", uid, "different" if lines else "same", lines, "", put)


def _as_ours(theirs: Any, ours: Any) -> Any:
    """What theirs says of what ours says."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return {key: _as_ours(theirs.get(key), item) for key, item in ours.items()}
    return theirs


def _own(board: Json) -> Json:
    return _without(board, _OF_THE_SERVER)


def _without(found: Json, keys: tuple[str, ...]) -> Json:
    return {key: item for key, item in found.items() if key not in keys}


def _diff(theirs: Any, ours: Any, name: str) -> tuple[str, ...]:
    before, after = canonical(theirs).splitlines(), canonical(ours).splitlines()
    return tuple(
        difflib.unified_diff(before, after, f"Grafana/{name}", f"ours/{name}", lineterm="", n=2)
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
