"""Students on a gateway: what they are on disk, how they score, where versions are kept.

The common format:

1. A student is a directory with two files, `model.onnx` and `manifest.json`, together the
   artifact. Its digest is the SHA-256 of manifest.json, which carries the SHA-256 of model.onnx.
2. The graph takes `windows`, float32 [batch, length, channels], already scaled, and gives `rul`,
   float32 [batch], or `probabilities`, float32 [batch, classes]. `batch` is dynamic, the rest is
   fixed. Opset 13 to 21, IR version up to 10, all weights inside, standard operators only.
3. Everything else is in the manifest: channels with units and order, rate, window length and hop,
   scaler, decoding, calibrated interval, metrics, lineage. Nothing comes from settings.
4. `Student.score` takes raw readings; scaling, ONNX Runtime and decoding are inside.
5. Whatever is odd is refused with an `ArtifactError` that names it; what ran before stays.
6. The registry keeps versions that never change and one pointer (`stable.json`) per name.

A walk-through:

```python
from models.artifact import read_artifact, write_artifact
from models.registry import Registry
from models.session import Student          # the only import of ONNX Runtime

artifact = write_artifact("out/rul", draft, onnx_bytes)   # draft: models.manifest.Draft
student = Student(read_artifact("out/rul"))
student.self_test()
scores = student.score(windows)                            # [batch, length, channels], raw units
registry = Registry(Path("registry"))
version = registry.publish("out/rul", stable=True)         # gateways take it from here
```

Files, in the order of use: `manifest` (fields and their checks), `onnxfile` (what is inside the
graph, without an ONNX library), `artifact` (directory), `features` (scaling, slicing), `session`
(scoring), `scores` (results), `registry` (versions and pointer), `errors` (the tree), `zoo`
(starter students that ship), `dummy` (a student without knowledge, for tests and first tries).
`models` imports nothing else of kpstream.
"""

__all__: list[str] = []
