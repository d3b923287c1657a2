"""Export: from a trained student to an artifact.

In: a trained student. Out: an artifact (`model.onnx`, `manifest.json`). Promise: it is written only
if ONNX Runtime gives the trained student's numbers.

Files, in order: `features` (the second output of students of classes), `artifact` (the export and
its parity check), `quantize` (the eight-bit form).
"""

__all__: list[str] = []
