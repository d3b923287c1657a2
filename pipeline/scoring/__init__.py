"""From closed windows to score records.

In: records of the topic `readings`. Out: score records on the topic `scores`. Promise: positions
are acknowledged in order, behind a checkpoint of scores and window state, so that a kill repeats
work and loses none.

`batch` scores windows of many devices at once (pure); `stage` is the Faust agent around it;
`students` and `rollover` hold the students and let a new one take over between two batches.
"""

__all__: list[str] = []
