"""From closed windows to score records.

In: records of the topic `readings`. Out: score records on the topic `scores`. Promise: offsets are
acknowledged in order, behind a checkpoint of scores and window state, so that a kill repeats work
and loses none.

Files: `stage` is the work behind the Faust agent; `batch` scores windows of many devices at once
(pure); `students` holds the students of a process; `rollover` lets a new student take over between
two batches, or the former one at once; `contests` compares a new student with the running one in
the background; `evidence` is what comes of it (pure), `thresholds` the limits; `examples` keeps
labelled windows, `anchoring` is what they do to scores (pure).
"""

__all__: list[str] = []
