### models/artifact.py
156: O_NONBLOCK: a named pipe must not hang the gateway; O_NOFOLLOW: a link is refused.
### models/manifest.py
57: 13 is the first opset whose Softmax and reductions have today's meaning; 21 is the newest one that the oldest supported ONNX Runtime (1.19) runs.
67: Not Literal[1]: that accepts true and 1.0 as well.
184: With a default, a manifest without its identity would pass as format 1, version 1.
199: pydantic's JSON reader silently takes the last of two equal keys.
### models/onnxfile.py
19: the newest that ONNX Runtime 1.19 reads a node can hold a graph in an attribute, and so on
22: TensorProto.FLOAT
24: Loop and Scan may never end; the others give another score each time.
144: Any value but the default is refused: protobuf would truncate 2**32 + 1 to EXTERNAL.
### models/registry.py
310: of a publisher that was killed
328: the running version is unknown here; each gateway compares for itself
344: History first: a crash in between leaves an extra line, never an unrecorded move.
354: A line that a power loss has truncated must not swallow this one.
376: closing the file releases the lock
396: a service without an entry in the user database
### models/session.py
18: Windows per run. Measured with a CNN of 370 kB: above 64 the time per window hardly falls, while the memory of intermediate tensors grows from 10 MB to 40 MB at 256.
95: as models.features.scale
98: Operators such as Relu or Max may turn NaN into a number that looks like a score, and an infinity could reach the other windows of the batch.
113: ONNX Runtime raises a dozen unrelated classes
146: patterns are cached per batch size, and sizes vary
149: Fused eight-bit kernels saturate on CPUs without VNNI, which makes another student of it.
151: Otherwise bytes in ONNX Runtime's own format would bypass the checks of models.onnxfile.
158: otherwise a refused graph is retried, with prints on stdout
160: ONNX Runtime raises a dozen unrelated classes
### models/tasks/classes.py
35: How much a probability may depend on the batch around it: float32 sums in another order at another batch size, and a vote of anchors far apart multiplies the difference.
### models/tasks/number.py
17: How much a score may depend on the batch around it, as a share of its range: float32 sums in another order at another batch size.