#!/usr/bin/env bash
#
# onnxruntime on Linux: a session writes a device id and a telemetry database into the home folder
#
# Expected: a library that runs a network from memory writes no file and identifies nobody.
#
# What happens: with onnxruntime 1.31.1, the first session of a process creates
# ~/.cache/Microsoft/DeveloperTools/.onnxruntime with a file `deviceid` (an identifier that stays the
# same for all later processes) and a SQLite database `onnxruntime.db` of events that wait to be sent,
# and one more thread runs. Nothing is printed. With ORT_DISABLE_TELEMETRY=1 in the environment before
# the import, there are neither files nor the thread.
#
# Why it matters: gateways in plants have to say which files they write, which connections they open
# and what identifies a machine; on a read-only or small disk nobody expects a database there. Set the
# variable before the import. This script looks at files and threads; it does not watch the network.
#
# Source: own measurement.
#
# Output seen:
#   onnxruntime 1.31.1, onnx 1.23.2
#   as installed: files ['deviceid', 'onnxruntime.db'], same device id in the next process: True, threads: 3
#   ORT_DISABLE_TELEMETRY=1: files [], threads: 2

set -euo pipefail

if ! command -v python3 >/dev/null; then
    echo "no verdict: the program python3 is missing" >&2
    exit 2
fi

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
if ! "$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    onnxruntime==1.31.1 onnx==1.23.2; then
    echo "no verdict: the packages cannot be installed" >&2
    exit 2
fi

cat >"$work/session.py" <<'PYTHON'
import os
import time

import onnx
import onnxruntime
from onnx import TensorProto, helper

names = ["x"], ["y"]
ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
graph = helper.make_graph([helper.make_node("Identity", *names)], "g", ends[:1], ends[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(
    model.SerializeToString(), options, providers=["CPUExecutionProvider"]
)
time.sleep(2)
print(onnxruntime.__version__, onnx.__version__, len(os.listdir("/proc/self/task")))
PYTHON

cat >"$work/check.py" <<'PYTHON'
import os
import subprocess
import sys
from pathlib import Path

work = Path(sys.argv[1])


def run(home, **more):
    """Versions, threads of the process, the files below the home folder, and the id."""
    home.mkdir(exist_ok=True)
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name != "ORT_DISABLE_TELEMETRY" and not name.startswith("XDG_")
    }
    out = subprocess.run(
        [sys.executable, work / "session.py"],
        env=inherited | {"HOME": str(home)} | more,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.split()
    files = sorted(path for path in home.rglob("*") if path.is_file())
    identity = [path.read_bytes() for path in files if path.name == "deviceid"]
    return out[:2], int(out[2]), [path.name for path in files], identity


versions, threads, files, identity = run(work / "home")
is_same = run(work / "home")[3] == identity
_, quiet_threads, quiet_files, _ = run(work / "quiet", ORT_DISABLE_TELEMETRY="1")
print(f"onnxruntime {versions[0]}, onnx {versions[1]}")
print(
    f"as installed: files {files}, same device id in the next process: {is_same}, "
    f"threads: {threads}"
)
print(f"ORT_DISABLE_TELEMETRY=1: files {quiet_files}, threads: {quiet_threads}")
usual = {"deviceid", "onnxruntime.db"}
if not (usual <= set(files) and is_same and not quiet_files and threads == quiet_threads + 1):
    print("CHANGED: other files, or no more threads")
    sys.exit(1)
PYTHON

code=0
timeout 150 "$work/venv/bin/python" "$work/check.py" "$work" || code=$?
if [ "$code" -gt 1 ]; then
    echo "no verdict: the check ended with status $code" >&2
    exit 2
fi
exit "$code"
