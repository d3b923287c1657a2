"""Export: from a trained student to an artifact.

In: a trained student. Out: an artifact (`model.onnx`, `manifest.json`). Promise: it is written only
if ONNX Runtime gives the trained student's numbers.

`artifact` writes it, `quantize` makes an eight-bit one.
"""

__all__: list[str] = []
