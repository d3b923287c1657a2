"""Recorded data sets with labels, one file each, one contract (`DataSet`, in contract.py).

1. Windows are `[num_windows, length, channels]` float32 in the units of the sensors, cut exactly as
   the stream cuts them; the scaler belongs to the student (its manifest), not to the data set.
2. Labels are int64: RUL in whole cycles capped at 125, or the index of the activity.
3. Every window has a group (an engine, a person). Splits draw groups, never windows: neighbouring
   windows share 29 of 30 readings.
4. `train` is what a student may learn from, part of it held out; `test` is the official test set,
   which no choice of a training run may depend on. It may be missing.
5. `digest` names the content of `train`, however it was packed.

`cmapss.py` (engines) and `uci_har.py` (phone at the waist) make students for gateways; `spsw.py`
(phone or smartwatch), `wisdm.py`, `arem.py` and `rfid_har.py` are there to compare methods, and so
are `ims.py` (bearings, too few for a claim) and `cmapss_altitudes.py` (conditions not seen before).
`benchmarks.py` reads each by its name in the ledger; `scarce.py` takes labels away.
`dummy.py` makes tiny synthetic sets of the same shapes, for tests and for a first try:

    from training.datasets.dummy import make_dummy
    data = make_dummy("rul", seed=0)
    held_out = hold_out_groups(data.train.groups, share=0.2, seed=0)   # training.windows
    student_sees = data.train.without_groups(held_out)
"""
