"""Recorded data sets with labels, one file each, one contract (`DataSet`, in contract.py).

In: data files. Out: labelled windows and the facts a manifest states about them. Promises:

1. Windows are `[num_windows, length, channels]` float32 in the units of the sensors, cut exactly as
   the stream cuts them; the scaler belongs to the student (its manifest), not to the data set.
2. Labels are int64: whole numbers (RUL in cycles, capped at 125) or the index of the class.
3. Every window has a group (an engine, a person). Splits draw groups, never windows, because
   neighbouring windows share 29 of 30 readings.
4. A student may learn from `train`, except for held-out groups. `test` is the official test
   set, which no choice of a training run may depend on; it may be missing.
5. `digest` identifies the content of `train`, in any packaging.

`cmapss` (engines) and `uci_har` (phone at the waist) make students for gateways. `spsw` (phone or
smartwatch), `wisdm`, `arem` and `rfid_har` compare methods; so do `ims` (bearings, too few for a
claim) and `cmapss_altitudes` (conditions absent from training). `dummy` makes tiny synthetic sets
of real shapes. `sources` names the data that `train-redistill` reads for a task, `benchmarks` reads
each set by its name in the ledger, `scarce` removes labels.

Forecasts learn from series without labels: `series` has their contract (`SeriesSet`: parts that
follow each other in time, windows cut when asked for), `missing` the rule for missing readings.
`ett`, `ltsf` (Weather, Exchange, ILI) and `beijing_air` read the sets of the literature,
`csv_series` CSV files of your own through one description (`series_description`), `dummy_series`
makes rooms, and `series_sources` reads each by its name.

    from training.datasets.dummy import make_dummy
    data = make_dummy("rul", seed=0)
    held_out = hold_out_groups(data.train.groups, share=0.2, seed=0)   # training.windows
    student_sees = data.train.without_groups(held_out)
"""

__all__: list[str] = []
