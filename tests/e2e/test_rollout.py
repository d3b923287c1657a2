"""A new student takes over while readings flow: no window lost, none twice, bad ones refused."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import orjson
import pytest

from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.publisher import Publisher
from models.artifact import Artifact, read_artifact, write_artifact
from models.manifest import Draft
from models.registry import Registry
from models.zoo import zoo_path
from pipeline.console.queries import all_points
from pipeline.stores.resultsfile import ResultsFile
from tests.e2e.devices import payload
from tests.e2e.plant import Plant

T0_MS = 1_750_000_000_000
NAME = "har-waist"


def draft_of(artifact: Artifact, **changes: object) -> Draft:
    fields = orjson.loads(artifact.manifest_bytes)
    fields.pop("onnx")
    return Draft.model_validate_json(orjson.dumps(fields | changes))


@pytest.mark.needs_mosquitto
@pytest.mark.slow
def test_a_new_version_takes_over_without_losing_or_doubling_a_window(tmp_path: Path) -> None:
    starter = read_artifact(zoo_path(NAME))
    with Plant(tmp_path, broker_kind="mosquitto") as plant:
        registry = Registry(plant.state_dir / "registry")
        flow = Flow(plant.broker.port)
        flow.start()
        plant.wait_until(lambda: plant.totals().get("scored", 0) > 20, "scoring")

        candidate = tmp_path / "v2"
        write_artifact(candidate, draft_of(starter, version=2), starter.onnx_bytes)
        registry.publish(candidate, stable=True)
        plant.wait_until(lambda: _model(plant)["version"] == 2, "swapped")

        _damage(registry, starter, tmp_path)
        plant.wait_until(lambda: _model(plant)["refused_version"] == 3, "refused")
        assert "sha" in _model(plant)["refused_error"].lower()
        assert _model(plant)["version"] == 2

        _point_to_misfit(registry, starter, tmp_path)
        plant.wait_until(lambda: _model(plant)["refused_version"] == 4, "refused")
        assert "body_acc_x" in _model(plant)["refused_error"]
        assert _model(plant)["version"] == 2

        scored = plant.totals()["scored"]
        plant.wait_until(lambda: plant.totals()["scored"] > scored + 20, "scoring on")
        published = flow.stop()
        plant.wait_until(lambda: plant.totals()["windowed"] == published, "windowed")
        expected = flow.devices * ((published // flow.devices - 128) // 64 + 1)
        plant.wait_until(lambda: plant.totals()["stored"] == expected, "stored")
        assert plant.stop_gateway() == 0

    results = ResultsFile(plant.results_path, read_only=True)
    points = all_points(results, "activity")
    results.close()
    assert len(points) == len({(p["device"], p["end_ms"]) for p in points}) == expected
    versions = [p["version"] for p in sorted(points, key=lambda p: p["end_ms"])]
    assert set(versions) == {1, 2}
    assert (versions[0], versions[-1]) == (1, 2)


@pytest.mark.slow
def test_a_started_gateway_has_loaded_no_training_library(tmp_path: Path) -> None:
    """Check the loaded modules of a started gateway, not import statements."""
    program = (
        "import asyncio, sys\n"
        "from deploy.processes.gateway import Gateway\n"
        "from deploy.settings.settings import GatewaySettings\n"
        "from ingest.settings import IngestSettings\n"
        "from pipeline.settings import PipelineSettings\n"
        "async def main():\n"
        f"    settings = GatewaySettings(state_dir={str(tmp_path)!r}, console_port=0)\n"
        "    gateway = Gateway(settings, IngestSettings(mqtt_port=1), PipelineSettings())\n"
        "    await gateway.start()\n"
        "    await gateway.stop()\n"
        "asyncio.run(main())\n"
        "banned = {'torch', 'transformers', 'pandas', 'sklearn', 'matplotlib'}\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & banned))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def _model(plant: Plant) -> dict:  # type: ignore[type-arg]
    page = plant.get("api/v1/models") or {"models": []}
    return next(model for model in page["models"] if model["name"] == NAME)


def _damage(registry: Registry, starter: Artifact, folder: Path) -> None:
    """Publish version 3, then flip a byte of its graph behind the registry's back."""
    write_artifact(folder / "v3", draft_of(starter, version=3), starter.onnx_bytes)
    registry.publish(folder / "v3")
    onnx = registry.version_path(NAME, 3) / "model.onnx"
    whole = onnx.read_bytes()
    pointer = read_artifact(registry.version_path(NAME, 3)).digest
    onnx.chmod(0o644)
    onnx.write_bytes(whole[:-10] + bytes([whole[-10] ^ 1]) + whole[-9:])
    _point(registry, 3, pointer)


def _point_to_misfit(registry: Registry, starter: Artifact, folder: Path) -> None:
    """Version 4 has its first two channels in another order."""
    channels = orjson.loads(starter.manifest_bytes)["channels"]
    channels[0], channels[1] = channels[1], channels[0]
    draft = draft_of(starter, version=4, channels=channels)
    artifact = write_artifact(folder / "v4", draft, starter.onnx_bytes)
    shutil.copytree(folder / "v4", registry.version_path(NAME, 4))
    _point(registry, 4, artifact.digest)


def _point(registry: Registry, version: int, digest: str) -> None:
    """Move the pointer without the registry's own checks, as a broken tool would."""
    pointer = registry.root / NAME / "stable.json"
    temporary = pointer.with_suffix(".tmp")
    temporary.write_bytes(orjson.dumps({"version": version, "digest": digest}))
    temporary.replace(pointer)


class Flow(threading.Thread):
    """A steady publisher that runs until stopped."""

    devices = 8

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._end = threading.Event()
        self._messages = 0

    def stop(self) -> int:
        self._end.set()
        self.join(30)
        return self._messages * 10 * self.devices

    def run(self) -> None:
        asyncio.run(self._publish())

    async def _publish(self) -> None:
        async with Publisher(Endpoint("127.0.0.1", self._port, "flow")) as publisher:
            while not self._end.is_set():
                for device in range(self.devices):
                    body = payload(self._messages * 10, 10, T0_MS)
                    await publisher.publish(f"sensors/flow/device-{device}/imu", body)
                self._messages += 1
                await asyncio.sleep(0.02)
            await publisher.flush()
