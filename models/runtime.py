"""ONNX Runtime, told to report nothing. The only file that imports it.

From 1.29 on, ONNX Runtime's Linux wheels send an event for each process and session, with hashes of
the model, to its makers, and keep a database in the home folder and a thread for that. The variable
below has to be set before the first import.
"""

from __future__ import annotations

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort

__all__ = ["ort"]
