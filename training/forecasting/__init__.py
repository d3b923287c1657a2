"""Forecasting: from recorded series to a student that says what a sensor reads next.

In: a `training.datasets.series.SeriesSet` and a recipe. Out: an artifact of the task `forecast`.
Promise: weights, band and every choice come from the training and validation parts alone; the test
part is read by `evaluate` only, after all choices.

1. The **recipe** (`recipe.py`, `configs/forecast-*.toml`) is one flat TOML file.
2. `windows.py` turns windows of a set into series of one channel each, in batches.
3. `start.py` fits the **ridge** that every network starts from and must beat, and its folds.
4. `losses.py` has the losses, with and without a teacher; `loop.py` is the training loop.
   `teaching.py` finds the products of a teacher by its name, controls included.
5. `quantiles.py` sets the band p10 to p90 on training (out of fold) and validation part;
   `evaluate.py` measures.
6. `export.py` writes the ONNX graph with both outputs; `candidate.py` is one whole run.

Imports run from the bottom of this list to its top.
"""

__all__: list[str] = []
