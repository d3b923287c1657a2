"""Windows in event time, all devices of a stream in one slab. Pure.

In: readings `[n, channels]` with event times, in any order. Out: closed windows
`[length, channels]`, and for every reading one outcome: windowed, duplicate, corrected, late or
refused.
Promise: the same readings give the same windows whatever their order within the lateness, and a
snapshot restores a device exactly.

1. `spec` defines windows, and `slice_windows` cuts a complete series: what a stream must give.
2. `devices` applies each record of the log once; `joining` makes blocks of single messages.
3. `slab` has a row for each device of a stream. `slabstep` takes the messages in order of all rows
   at once, `countcut` cuts their windows, and `slabgrid` resamples those at the student's rate.
4. `windower` has the rules for a reading (late, duplicate, correction, gap), and takes the messages
   of one row after the other; `rowbuffer` is what it sees, `cutters` and `gridcutter` cut it.
5. `slabstate` is the state of all rows, in arrays of `segments`, with `remembered` event times;
   `slabsnapshots`, `snapshots` and `series` save a row as bytes; `resample` brings a stream to the
   rate of its student.
6. `slabwindows` and `windowbatch` are closed windows as columns.
"""

__all__: list[str] = []
