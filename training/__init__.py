"""From recorded readings with labels to a student on gateways.

1. A **data set** (`datasets/`) gives windows `[num_windows, length, channels]` in raw units,
   integer labels and groups (engines, persons). It reads through `ingest.recordings`, the readers
   of replay, and slices through `models.features`, the slicing of the stream.
2. **Anchors** (`anchors.py`) are one text vector per possible answer, computed once with a frozen
   text encoder and committed as two small files. Nothing else here loads a language model.
3. A **recipe** (`recipes.py`, `configs/*.toml`) is one flat TOML; it travels in the lineage.
4. A **student** (`students.py`) is a small CNN, behind scaling per operating condition
   (`conditions.py`) where the data need it; a **method** (`methods/`) is the loss around it and
   says what of it is exported. `distill.py` is the loop.
5. `calibrate.py` and `familiarity.py` make it say how sure it is; `export.py` writes an artifact
   only if ONNX Runtime gives the trained student's numbers, `quantize.py` an eight-bit one.
6. `ledger.py` says which experiments there are and which are done; `python -m training.bench` does
   the missing ones (one is in `benchruns.py`, `classical.py` has the baselines, `openvocab.py`
   names activities without an example), and `benchreport.py` writes the tables.
7. `candidate.py` is one whole run: split by groups, train, calibrate, export, compare with the
   running student. `redistill.py` is the command around it, `evaluate.py` the measures,
   `starters.py` makes the students that ship and their cards.

A walk through it (needs the extra `[training]`):

    from pathlib import Path
    from training.candidate import train_candidate
    from training.datasets.dummy import make_dummy
    from training.recipes import shipped_recipe

    data = make_dummy("rul")
    recipe = shipped_recipe("rul-fd001", epochs=5)
    candidate = train_candidate(data, recipe, "rul-dummy", Path("run"), command="by hand")
    print(candidate.metrics["rmse"], candidate.artifact.path)

The official test sets are read by three commands only, and nothing they say flows back into a run:
`python -m training.starters.official --artifact DIR --data PATH`, `python -m training.starters
build`, which scores the exported student, and the ledger, which scores them after the last pass
(and, for comparison with the literature, watches them without acting on it).
"""
