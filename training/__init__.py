"""Training: from recorded readings with labels to a student on gateways.

In: data files with labels, and a recipe. Out: an artifact, published only if it beats the running
student. Promise: the official test sets influence no choice.

1. A **data set** (`datasets/`) gives windows `[num_windows, length, channels]` in raw units,
   integer labels and groups (engines, persons). It reads through `ingest.recordings`, the readers
   of replay, and cuts through `models.features`, the slicing of the stream.
2. **Anchors** (`teachers/anchors.py`) are one text vector per possible answer, computed once by a
   frozen text encoder and committed as small files. No other code here loads a language model.
3. A **recipe** (`recipes.py`, `configs/*.toml`) is one flat TOML file; it travels in the lineage.
4. A **student** (`students/`) is a small network, behind scaling per operating condition where the
   data need it. A **method** (`methods/`) is the loss around it and defines the exported part.
   `distill.py` is the training loop, with `augment.py` and `scoring.py`.
5. **Uncertainty** (`uncertainty/`) calibrates it on held-out groups. `export/` writes an artifact
   only if ONNX Runtime gives the trained student's numbers.
6. `candidate.py` is one whole run: split by groups, train, calibrate, export, compare with the
   running student. `redistill.py` is the command `train-redistill`, with `redistill_labelled.py`
   around a run and its output in `report.py`, `plots.py` and `runpage.py`; `evaluate.py` has the
   comparison.
7. The **experiment ledger** (`bench/`, `python -m training.bench`) makes the missing experiments
   and writes their tables. `starters/` makes the shipped students and their cards;
   `stress/` tests them, and yours, under stress.

A **forecast** goes the same way without labels: series instead of windows (`datasets/series.py`),
its own recipe and loop (`forecasting/`), and held-out time instead of held-out groups
(`forecast_gate.py`, `redistill_forecast.py`).

The task of a data set (`models.tasks`) defines answer, decoding and measures; training never asks
for a task by name.

A walk-through (needs the extra `[training]`):

    from pathlib import Path
    from training.candidate import train_candidate
    from training.datasets.dummy import make_dummy
    from training.recipes import shipped_recipe

    data = make_dummy("rul")
    recipe = shipped_recipe("rul-fd001", epochs=5)
    candidate = train_candidate(data, recipe, "rul-dummy", Path("run"), command="walk-through")
    print(candidate.metrics["rmse"], candidate.artifact.path)

Only three commands read the official test sets, and their results influence no run:
`python -m training.starters.official --artifact DIR --data PATH`; `python -m training.starters
build`, which scores the exported student; and the ledger, which scores a student after its last
pass and, for comparison with the literature, after every pass without acting on it.

Imports between files and folders run one way; every line imports from the lines below it only:

    redistill
    bench
    starters
    runpage
    report, plots
    candidate
    export, methods, uncertainty
    teachers
    distill
    augment, scoring
    students
    datasets
    recipes, evaluate
    windows
    errors, configs
"""

__all__: list[str] = []
