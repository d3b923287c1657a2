"""Tasks: the answers that students can give. One file and one line in `registry` per task.

In: raw outputs of a graph and the student's decoding. Out: scores, the fields of a score record,
and all other facts about an answer that kpstream needs: its measurement, its measures,
its hours in InfluxDB, its card on the console. Promise: no file outside a task's own compares with
the name of a task; scoring, points, stores, console, boards and training read the `Task`.

A walk-through:

```python
from models.tasks.registry import find_task, tasks

task = find_task("rul")                                # UnknownTask names the known ones
task.answer.outputs(manifest.decoding)                 # {"rul": ()}: one number per window
decode = task.answer.decoder(manifest.decoding, manifest.interval)
scores = decode({"rul": raw}, valid, windows)          # the graph's outputs by name
task.answer.columns(scores)                            # {"rul": array([95.0, ...]), ...}
task.measure(truth, scores.values)                     # {"rmse": 12.3, "nasa_score": 310.0, ...}
```

A new task is one file with a `Task` and one line in `registry.py`; a card of its own on the console
and a board are optional. `registry.registered` adds a task for the length of a `with` block, as
`tests/test_made_up_task.py` does.

Files, in order: `fields` (types that decodings and manifests are made of), `outputs` (what a graph
returns), `moved` (how far an answer moves, for explanations), `traits` (what a gateway compares of
two students), `number`, `classes` and `quantiles` (the kinds of answer; a number has a calibrated
interval, which `familiarity` widens, a forecast has quantiles and an anomaly score, see `anomaly`),
`contract` (the `Task`), `rul`, `activity`, `forecast` (the tasks), `registry`.
"""

__all__: list[str] = []
