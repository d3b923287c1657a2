"""Students: the small networks that are deployed.

In: windows `[batch, length, channels]`, scaled. Out: features `[batch, dims]`. Promise: everything
here exports to the ONNX operators that a gateway accepts.

Files, in order: `statistics` (statistics of a window, per channel), `encoders` (the networks),
`conditions` (the preprocessor that scales sensors per operating condition).
"""

__all__: list[str] = []
