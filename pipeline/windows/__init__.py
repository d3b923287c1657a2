"""Windows in event time, one windower per device. Pure.

In: readings `[n, channels]` with event times, in any order. Out: closed windows
`[length, channels]` and what became of every reading: windowed, duplicate, late or refused.
Promise: the same readings give the same windows whatever the order within the lateness, and a
snapshot restores a windower exactly.

`spec` says what a window is; `windower` decides; `cutters`, `reorder` and `snapshots` are its
parts; `devices` holds one windower per device and applies each record of the log once.
"""

__all__: list[str] = []
