"""Windows in event time, one windower per device. Pure.

In: readings `[n, channels]` with event times, in any order. Out: closed windows
`[length, channels]`, and for every reading one outcome: windowed, duplicate, corrected, late or
refused.
Promise: the same readings give the same windows whatever their order within the lateness, and a
snapshot restores a windower exactly.

Files: `spec` defines windows; `windower` decides on each reading (late, duplicate, correction,
gap); `cutters` buffers readings and closes windows; `resample` brings a stream to the rate of its
student, and `gridcutter` cuts what comes out; `snapshots` encodes the state; `devices` holds one
windower per device and applies each record of the log once.
"""

__all__: list[str] = []
