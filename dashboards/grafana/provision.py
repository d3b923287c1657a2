"""Boards, alerts and data source as provisioning files, for a Grafana without an API token.

    json/*.json                             boards
    provisioning/datasources/kpstream.yaml  data source; its token is an environment variable
    provisioning/dashboards/kpstream.yaml   path of the boards, and the folder that shows them
    provisioning/alerting/kpstream.yaml     alert rules

The contents of `provisioning` belong into Grafana's own folder (`/etc/grafana/provisioning`), and
the boards to the path in the second file. Grafana replaces `$NAME` in these files by environment
variables, so no other text contains a `$`.

`python -m dashboards.grafana.provision` writes the committed files in `dashboards/json` and
`dashboards/provisioning`; `kpstream dashboards render DIR` writes them for the settings of a site.
Everything but `write` is pure.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from dashboards.alerts.alert import duration
from dashboards.site import SiteDashboards, site_dashboards
from dashboards.visuals.views import Json

__all__ = [
    "BOARDS_PATH",
    "TOKEN_VARIABLE",
    "URL_VARIABLE",
    "canonical",
    "files_of",
    "write",
    "yaml",
]

BOARDS_PATH = "/var/lib/grafana/dashboards/kpstream"
"""Default path of the boards on the machine of Grafana's server."""

URL_VARIABLE = "KPSTREAM_GRAFANA_INFLUX_URL"
"""Environment variable of Grafana's server: address of InfluxDB."""
TOKEN_VARIABLE = "KPSTREAM_GRAFANA_INFLUX_TOKEN"  # noqa: S105 (a name)
"""Environment variable of Grafana's server: token for InfluxDB."""

_HEAD = "# Written by `kpstream dashboards render`; change dashboards/*.py instead.\n"

_RESERVED = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
"""Words that YAML 1.1 does not read as text."""


def files_of(site: SiteDashboards, *, boards_path: str = BOARDS_PATH) -> dict[str, str]:
    """Texts of all files, by their path below a folder of your choice."""
    files = {f"json/{uid}.json": canonical(site.board_json(uid)) for uid in site.boards}
    parts = {
        "datasources": _datasources(site),
        "dashboards": _providers(site, boards_path),
        "alerting": _alerting(site),
    }
    for part, content in parts.items():
        files[f"provisioning/{part}/kpstream.yaml"] = _HEAD + yaml({"apiVersion": 1} | content)
    return files


def write(files: dict[str, str], folder: Path) -> list[Path]:
    """Write the files below a folder; files that have not changed are not touched.

    Returns:
        Paths of the files that were written.
    """
    written = []
    for name, text in files.items():
        path = folder / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written


def canonical(value: Any) -> str:
    """JSON in one normal form: sorted keys, two blanks of indent, whole floats as integers.

    >>> print(canonical({"b": 20.0, "a": 1}), end="")
    {
      "a": 1,
      "b": 20
    }
    """
    return json.dumps(_plain(value), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def yaml(value: Any, indent: int = 0) -> str:
    """JSON data as YAML: blocks, quoted texts, texts of several lines as literal blocks.

    >>> print(yaml({"a": [{"b": 1, "c": "x: y"}], "d": {}}), end="")
    a:
      - b: 1
        c: "x: y"
    d: {}
    """
    pad = " " * indent
    if isinstance(value, dict):
        return "".join(f"{pad}{_key(key)}:{_below(item, indent)}" for key, item in value.items())
    lines = []
    for item in value:
        if isinstance(item, (dict, list)) and item:
            block = yaml(item, indent + 2)
            lines.append(f"{pad}- {block[indent + 2 :]}")
        else:
            lines.append(f"{pad}- {_scalar(item, indent)}\n")
    return "".join(lines)


def _below(item: Any, indent: int) -> str:
    if isinstance(item, (dict, list)) and item:
        return "\n" + yaml(item, indent + 2)
    return f" {_scalar(item, indent)}\n"


def _scalar(item: Any, indent: int) -> str:
    item = _plain(item)
    if isinstance(item, str) and "\n" in item:
        lines = item.split("\n")
        plain = all(line == line.rstrip() and line.isprintable() for line in lines)
        if plain and lines[-1] and lines[0] == lines[0].lstrip() != "":
            pad = " " * (indent + 2)
            return "|-\n" + "\n".join(pad + line if line else "" for line in lines)
    return _quoted(item)


def _quoted(item: Any) -> str:
    """A JSON literal, which is YAML too; unprintable characters are escaped as YAML requires."""
    text = json.dumps(item, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in text)


def _key(key: str) -> str:
    plain = re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", key) and key.lower() not in _RESERVED
    return key if plain else _quoted(key)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _datasources(site: SiteDashboards) -> Json:
    source = site.source.json() | {
        "orgId": site.org_id,
        "url": f"${URL_VARIABLE}",
        "secureJsonData": {"token": f"${TOKEN_VARIABLE}"},
        "editable": False,
    }
    return {"datasources": [source]}


def _providers(site: SiteDashboards, boards_path: str) -> Json:
    provider = {
        "name": "kpstream",
        "orgId": site.org_id,
        "folder": site.folder_title,
        "folderUid": site.folder_uid,
        "type": "file",
        "disableDeletion": False,
        "allowUiUpdates": False,
        "updateIntervalSeconds": 60,
        "options": {"path": boards_path, "foldersFromFilesStructure": False},
    }
    return {"providers": [provider]}


def _alerting(site: SiteDashboards) -> Json:
    groups = [
        {
            "orgId": site.org_id,
            "name": group.name,
            "folder": site.folder_title,
            "interval": duration(group.interval_s),
            "rules": [
                rule.file_json(site.boards, source_uid=site.source.uid) for rule in group.rules
            ],
        }
        for group in site.groups
    ]
    return {"groups": groups}


if __name__ == "__main__":
    write(files_of(site_dashboards()), Path(__file__).parent.parent)
