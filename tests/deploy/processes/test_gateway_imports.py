"""What a started gateway has not loaded, because it does not need it, with what it would cost.

Each megabyte of modules is resident for good, and each module lengthens every start.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
START = """
import asyncio, json, sys, tempfile
from pathlib import Path
import deploy.cli, deploy.commands.gateway
from deploy.processes import gateway
from deploy.settings.settings import GatewaySettings
from ingest.settings import IngestSettings
from pipeline.settings import PipelineSettings

async def run(folder):
    gateway._BROKER_S = 0
    settings = GatewaySettings(state_dir=folder, console_port=0)
    made = gateway.Gateway(settings, IngestSettings(mqtt_port=1), PipelineSettings())
    await made.start()
    loaded = sorted(sys.modules)
    await made.stop()
    return loaded

with tempfile.TemporaryDirectory() as folder:
    print(json.dumps(asyncio.run(run(Path(folder)))))
"""
NOT_LOADED = {
    "a store in InfluxDB only": ["influxdb_client", "reactivex", "pipeline.stores.influx"],
    "a centre only, in a child process": [
        "tuf",
        "securesystemslib",
        "cryptography",
        "requests",
        "urllib3",
        "deploy.updates",
        "deploy.rollout",
    ],
    "the broker of the demo": ["amqtt", "ingest.simulators", "ingest.mqtt.broker"],
    "other formats than JSON": ["google", "ingest.sparkplug.wire", "cbor2", "msgpack", "jmespath"],
    "a site": [
        "ingest.kafka",
        "pipeline.log.kafkatransport",
        "faust.transport.drivers.aiokafka",
        "dashboards",
        "deploy.stack",
        "deploy.supervisor",
    ],
    "what Faust can do besides": ["faust.cli", "faust.livecheck", "aiohttp_cors", "rocksdict"],
    "other commands": [
        "deploy.doctor",
        "deploy.bundle",
        "deploy.fleet",
        "deploy.commands.demo",
        "deploy.commands.site",
        "ingest.replay",
        "pipeline.log.repair",
        "rich",
        "psutil",
    ],
    "recordings and training": ["training", "pyarrow", "h5py", "ingest.recordings"],
    # np.unique and np.isin load numpy.ma, and np.random all generators: 1 MB and 3 MB.
    "arithmetic that a gateway at rest does not do": [
        "numpy.random",
        "numpy.ma",
        "numpy.fft",
        "numpy.polynomial",
    ],
    "development": ["unittest", "pdb", "doctest", "multiprocessing"],
}


@pytest.fixture(scope="module")
def loaded() -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", START],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    assert "pipeline.scoring.stage" in found
    return found


@pytest.mark.parametrize("reason", NOT_LOADED)
def test_a_started_gateway_has_not_loaded(loaded: list[str], reason: str) -> None:
    names = NOT_LOADED[reason]
    wrong = [
        module
        for module in loaded
        for name in names
        if module == name or module.startswith(f"{name}.")
    ]
    assert wrong == [], f"needed for {reason}"
