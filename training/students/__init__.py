"""Students: the small networks that are deployed.

In: windows `[batch, length, channels]`, scaled. Out: features `[batch, dims]`. Promise: everything
here exports to the ONNX operators that a gateway accepts.

`encoders` are the networks, `conditions` scales sensors per operating condition in front of one.
"""

__all__: list[str] = []
