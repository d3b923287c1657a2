"""Peers that are programs of their own: Telegraf, which only collects, and eKuiper."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ingest.childprocess import tied_to_parent
from tests.bench.peers.environments import find_peer
from tests.bench.peers.measured import Cpu, Load, memory_mb, peak_mb, running_broker, wait_until
from tests.bench.peers.reference import Found, check_scores
from tests.bench.peers.workloads import PREFIX, ROOT, W1, Workload, device_name
from tests.fakes.ports import free_port

__all__ = ["flood_ekuiper", "flood_telegraf", "telegraf_config"]

_BASE_MS = 1_760_000_000_000
_QUIET_S = 4.0
"""A program that has used no CPU for so long is done."""


def flood_telegraf(folder: Path, workload: Workload, per_device: int) -> dict[str, Any]:
    """MQTT to a file in line protocol, no windows, no scores: every message has to be there."""
    program = find_peer("telegraf")
    if program is None:
        return {"absent": "`telegraf` is not on PATH"}
    folder.mkdir(parents=True, exist_ok=True)
    messages = workload.devices * per_device // workload.per_message
    out = folder / "lines.txt"
    with running_broker(folder / "broker") as (port, _):
        config = folder / "telegraf.conf"
        config.write_text(telegraf_config(port, out), encoding="utf-8")
        with _running([program, "--config", str(config)], folder) as pid:
            time.sleep(4)
            figures = _flood(workload, port, per_device, pid, lambda: _count(out) >= messages)
    found = _count(out)
    check = f"{found:,} of {messages:,} messages"
    return figures | {"check": check, "holds": found == messages}


def telegraf_config(port: int, out: Path) -> str:
    """Settings of Telegraf: one subscription with QoS 1, lines to a file."""
    return f"""[agent]
interval = "10s"
flush_interval = "1s"
metric_batch_size = 5000
metric_buffer_limit = 200000
omit_hostname = true
[[inputs.mqtt_consumer]]
servers = ["tcp://127.0.0.1:{port}"]
topics = ["{PREFIX}/+/+"]
qos = 1
persistent_session = true
client_id = "telegraf"
max_undelivered_messages = 5000
data_format = "json"
json_time_key = "ts"
json_time_format = "unix_ms"
[[outputs.file]]
files = ["{out}"]
data_format = "influx"
"""


def flood_ekuiper(folder: Path, workload: Workload, per_device: int) -> dict[str, Any]:
    """A stream and a rule for each device, because its count windows have no key; W1 only.

    Its ONNX function takes one window of a fixed shape, so the scaler moves into the graph.
    `KUIPER_HOME` names an installation with `etc/` and the ONNX function in `plugins/functions/`.
    """
    program, home = find_peer("kuiperd"), os.environ.get("KUIPER_HOME")
    if program is None:
        return {"absent": "`kuiperd` is not on PATH"}
    if home is None or not Path(home, "etc").is_dir():
        return {"absent": "KUIPER_HOME names no installation with its ONNX function"}
    if workload is not W1:
        return {"absent": "reads another form of messages"}
    base = folder / "ekuiper"
    shutil.copytree(home, base)
    with running_broker(folder / "broker") as (port, _):
        rest = _configure(base, port)
        (base / "data/uploads").mkdir(parents=True, exist_ok=True)
        _write_model(workload, base / "data/uploads" / f"{workload.name}.onnx")
        env = {"KuiperBaseKey": str(base)}
        with _running([program], folder, cwd=base, **env) as pid:
            wait_until(lambda: _answers(rest), 60, "eKuiper up")
            for device in range(workload.devices):
                _add_rule(rest, workload, device, folder)
            time.sleep(3 + workload.devices * 0.01)
            figures = _flood(workload, port, per_device, pid, lambda: False)
    found = _scores(folder, workload)
    check = check_scores(found, workload, workload.devices, per_device, full_only=True)
    return figures | {"check": str(check), "holds": check.holds}


@contextmanager
def _running(
    command: list[str], folder: Path, *, cwd: Path | None = None, **env: str
) -> Iterator[int]:
    with (folder / "peer.log").open("wb") as output:
        process = subprocess.Popen(
            tied_to_parent(command),
            cwd=cwd,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield process.pid
    finally:
        process.terminate()  # a file sink writes the rest at the end
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _flood(
    workload: Workload, port: int, per_device: int, pid: int, is_done: Callable[[], bool]
) -> dict[str, Any]:
    """Publish, and wait until the program is done or uses no CPU any more."""
    readings = workload.devices * per_device
    load = Load(
        workload, port, devices=workload.devices, messages=readings // workload.per_message,
        base_ms=_BASE_MS,
    )  # fmt: skip
    cpu = Cpu.of(pid)
    load.run()
    last, since = cpu.seconds, time.monotonic()
    while not is_done() and time.monotonic() - since < _QUIET_S:
        time.sleep(0.5)
        spent = cpu.seconds
        if spent - last > 0.03:
            last, since = spent, time.monotonic()
    return {
        "cpu_per_million": cpu.seconds / readings * 1e6,
        "seconds": since - time.monotonic() + time.perf_counter() - cpu.started,
        "rss_mb": memory_mb(pid),
        "peak_mb": peak_mb(pid),
    }


def _count(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _configure(base: Path, mqtt_port: int) -> int:
    """Set the ports of an installation; returns that of its REST interface."""
    rest = free_port()
    path = base / "etc/kuiper.yaml"
    text = path.read_text(encoding="utf-8").replace("0.0.0.0", "127.0.0.1")
    text = text.replace("restPort: 9081", f"restPort: {rest}")
    path.write_text(text.replace("port: 20498", f"port: {free_port()}", 1), encoding="utf-8")
    source = base / "etc/mqtt_source.yaml"
    text = source.read_text(encoding="utf-8").replace("1883", str(mqtt_port))
    source.write_text(text, encoding="utf-8")
    return rest


def _write_model(workload: Workload, path: Path) -> None:
    """The student for one raw window: its scaler is part of the graph."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(str(ROOT / "models/zoo" / workload.student / "model.onnx"))
    manifest, graph = workload.manifest, model.graph
    name = graph.input[0].name
    for node in graph.node:
        node.input[:] = ["scaled__" if each == name else each for each in node.input]
    for key, part in (("scale", "scale__"), ("offset", "offset__")):
        values = np.array(manifest["scaler"][key], np.float32)
        graph.initializer.append(numpy_helper.from_array(values, part))
    graph.node.insert(0, helper.make_node("Mul", [name, "scale__"], ["product__"]))
    graph.node.insert(1, helper.make_node("Add", ["product__", "offset__"], ["scaled__"]))
    shape = [1, manifest["window"]["length"], len(workload.channels)]
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
    for output in graph.output:
        output.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _add_rule(rest: int, workload: Workload, device: int, folder: Path) -> None:
    name, length = device_name(device), workload.manifest["window"]["length"]
    topic = f"{PREFIX}/{name}/{workload.stream}"
    stream = f'CREATE STREAM {name} () WITH (DATASOURCE="{topic}", FORMAT="JSON", TYPE="mqtt")'
    _call(rest, "streams", {"sql": stream})
    row = "array_create(" + ",".join(f"values->{each}" for each in workload.channels) + ")"
    sql = (
        f'SELECT last_value(ts, true) AS ts, onnx("{workload.name}", '
        f"array_flatten(collect({row}))) AS y FROM {name} GROUP BY COUNTWINDOW({length}, 1)"
    )
    file = {"path": str(folder / f"{name}.lines"), "fileType": "lines", "format": "json",
            "sendSingle": True}  # fmt: skip
    options = {"qos": 0, "sendError": False, "disableBufferFullDiscard": True}
    rule = {"id": f"rule_{name}", "sql": sql, "actions": [{"file": file}], "options": options}
    _call(rest, "rules", rule)


def _scores(folder: Path, workload: Workload) -> Found:
    found: dict[str, list[list[float]]] = {}
    for device in range(workload.devices):
        name = device_name(device)
        path = folder / f"{name}.lines"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        scores = sorted((json.loads(line) for line in lines), key=lambda score: score["ts"])
        found[name] = [np.ravel(score["y"]).tolist() for score in scores]
    return found


def _answers(rest: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{rest}/", timeout=2):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def _call(rest: int, path: str, body: dict[str, Any]) -> None:
    request = urllib.request.Request(
        f"http://127.0.0.1:{rest}/{path}",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
        method="POST",
    )
    with urllib.request.urlopen(request, timeout=60):
        pass
