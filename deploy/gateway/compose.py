"""The compose file of a gateway in containers: broker, gateway, InfluxDB, Grafana with boards.

`python -m deploy.gateway.compose` prints `deploy/gateway/compose.yaml`. Broker, InfluxDB and
Grafana are those of a site (`deploy.stack.composefile`); the gateway is the image of the
`Containerfile`.
"""

from __future__ import annotations

from typing import Any

from dashboards.grafana.provision import yaml
from deploy.stack.composefile import (
    CONFINED,
    SECRETS_VOLUME,
    grafana_service,
    healthcheck,
    influx_service,
    mosquitto_image_config,
    mosquitto_service,
)
from deploy.stack.sitesetup import GRAFANA_TOKEN_FILE, STORE_ENV_FILE

__all__ = ["compose", "compose_text"]

_PORT = 8765
_HEAD = """\
# Written by `python -m deploy.gateway.compose`; change deploy/gateway/compose.py instead.
# A gateway in containers, with results in InfluxDB and boards in Grafana. From the root of the
# repository, with a password of your own for Grafana's user admin:
#
#     make bundle PYTHON=3.11
#     (umask 077 && openssl rand -base64 24 > deploy/gateway/grafana-admin.password)
#     docker compose -f deploy/gateway/compose.yaml up --build --detach
#
# Console http://127.0.0.1:8765/, Grafana http://127.0.0.1:3000/. All ports are open on loopback
# only. The tests do not run containers; they compare this file with the settings of a site.
"""


def compose() -> dict[str, Any]:
    """Return the compose file as data."""
    volumes = ("mosquitto", "influxdb", "state", "secrets", "grafana-token", "grafana")
    return {
        "name": "kpstream-gateway",
        "services": {
            "mosquitto": mosquitto_service(),
            "influxdb": influx_service(),
            "setup": _setup_service(),
            "gateway": _gateway_service(),
            "grafana": grafana_service(),
        },
        "configs": {"mosquitto": {"content": mosquitto_image_config()}},
        "secrets": {"grafana-admin": {"file": "./grafana-admin.password"}},
        "volumes": {name: {} for name in volumes},
    }


def compose_text() -> str:
    """Return the content of `compose.yaml`."""
    return _HEAD + yaml(compose())


def _own_service() -> dict[str, Any]:
    return {
        "image": "kpstream-gateway",
        "build": {"context": "../..", "dockerfile": "deploy/gateway/Containerfile"},
        "environment": {
            "KPSTREAM_SITE_STATE_DIR": "/state",
            "KPSTREAM_GATEWAY_STATE_DIR": "/state",
            "KPSTREAM_INGEST_MQTT_HOST": "mosquitto",
            "KPSTREAM_PIPELINE_INFLUX_URL": "http://influxdb:8086",
            "OMP_NUM_THREADS": "1",
        },
        **CONFINED,
    }


def _setup_service() -> dict[str, Any]:
    """Makes buckets and tokens; Grafana sees its own token only."""
    return {
        **_own_service(),
        "volumes": ["state:/state", SECRETS_VOLUME, "grafana-token:/grafana"],
        "command": [
            *("sh", "-c"),
            "kpstream site setup --influx-only --wait 300"
            f" && install -m 600 /state/{GRAFANA_TOKEN_FILE} /grafana/token",
        ],
        "depends_on": ["influxdb"],
    }


def _gateway_service() -> dict[str, Any]:
    own = _own_service()
    own["environment"] |= {
        "KPSTREAM_GATEWAY_NAME": "gateway",
        # Inside its network only; the port below is published on loopback.
        "KPSTREAM_GATEWAY_CONSOLE_HOST": "0.0.0.0",  # noqa: S104
        "KPSTREAM_GATEWAY_CONSOLE_HOSTS": '["localhost"]',
    }
    read = f". /state/{STORE_ENV_FILE} && export KPSTREAM_PIPELINE_INFLUX_TOKEN"
    check = (
        "import urllib.request; "
        f"urllib.request.urlopen('http://127.0.0.1:{_PORT}/ready', timeout=3)"
    )
    return {
        **own,
        "volumes": ["state:/state", f"{SECRETS_VOLUME}:ro"],
        "command": ["sh", "-c", f"{read} && exec kpstream gateway"],
        "ports": [f"127.0.0.1:{_PORT}:{_PORT}"],
        "restart": "unless-stopped",
        "stop_grace_period": "30s",
        "depends_on": {"setup": {"condition": "service_completed_successfully"}},
        "healthcheck": healthcheck("python", "-c", check),
    }


if __name__ == "__main__":
    print(compose_text(), end="")
