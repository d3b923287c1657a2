"""Students on a gateway: files on disk, scoring, and a registry of versions.

The common format:

1. A student is a directory with two files, `model.onnx` and `manifest.json`, together the
   artifact. Its digest is the SHA-256 of manifest.json, which carries the SHA-256 of model.onnx.
2. The graph takes `windows`, float32 [batch, length, channels], already scaled, and has one output
   of the task: `rul`, float32 [batch], or `probabilities`, float32 [batch, classes]; students of
   classes may have a second one, `features`, float32 [batch, size] (`models.anchors`). `batch` is
   dynamic, all other dimensions are fixed. Opset 13 to 21, IR version up to 10, all weights inside
   the file, standard operators only.
3. Everything else is in the manifest: task, channels with units and order, rate, window length and
   hop, scaler, range of the readings in training, decoding, calibrated interval, metrics, lineage.
   Nothing comes from settings.
4. `Student.score` takes raw readings. It scales them, runs ONNX Runtime and decodes the output.
5. An invalid artifact is refused with an `ArtifactError` that names the fault, and the running
   student stays.
6. The registry keeps versions, which never change, and one pointer (`stable.json`) per model.
7. A task (`models.tasks`) is one object that defines everything about an answer.

A walk-through:

```python
from models.acceptance import publish_stable
from models.artifact import read_artifact, write_artifact
from models.registry import Registry
from models.session import Student

artifact = write_artifact("out/rul", draft, onnx_bytes)   # draft: models.manifest.Draft
student = Student(read_artifact("out/rul"))
student.self_test()
scores = student.score(windows)                            # [batch, length, channels], raw units
registry = Registry(Path("registry"))
accepted = publish_stable(registry, "out/rul")             # tried; gateways take it from here
```

Files, in the order of use: `tasks` (the kinds of answers), `manifest` (fields and their checks),
`onnxfile` (inspects a graph without an ONNX library), `artifact` (directory), `features` (scaling,
slicing), `runtime` (the only import of ONNX Runtime), `session` (scoring), `anchors` (labels by
example), `trial` (a first run in a child process, with a budget), `explain` (which readings moved a
score), `registry` (versions and pointer), `acceptance` (the checks before a student becomes
stable), `errors` (the tree), `zoo` (students that ship), `dummy` (a student without knowledge, for
tests and first tries).
`models` imports nothing else of kpstream.
"""

__all__: list[str] = []
