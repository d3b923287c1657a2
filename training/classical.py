"""Classical baselines: ridge and gradient boosting on statistics of the window (scikit-learn).

`constant` gives the same score for every window: a result is meaningful only if it is better.

The baselines get the windows of the student, scaled as its graph scales them. Nothing is tuned on
the test set: leave-one-out on the training windows chooses the penalty of ridge, and boosting has
fixed settings. They are measured like the students, and are not exported.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.datasets.contract import DataSet, fit_scaler
from training.errors import MissingExtraError
from training.windows import WindowSet

__all__ = ["BASELINES", "fit_classical", "scale_for_baselines"]

BASELINES = ("constant", "ridge", "boosting")
"""The baselines, from the weakest on."""
_PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0)


class _Scorer:
    """A fitted baseline: scaled windows to numbers `[n]` or probabilities `[n, classes]`."""

    def __init__(self, model: Any, data: DataSet) -> None:
        self._model = model
        self._data = data

    def __call__(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        features = _features(windows)
        if self._data.labels is None:
            clipped = np.clip(self._model.predict(features), 0, self._data.largest)
            return np.asarray(clipped, dtype=np.float32)
        if hasattr(self._model, "predict_proba"):
            known: Any = self._model.predict_proba(features)
        else:  # ridge gives distances, not probabilities: use one-hot of its choice
            known = self._model.predict(features)[:, None] == self._model.classes_
        scored = np.zeros((len(features), len(self._data.labels)), dtype=np.float32)
        scored[:, self._model.classes_] = known
        return scored


def fit_classical(kind: str, data: DataSet, seen: WindowSet, seed: int) -> _Scorer:
    """Fit a baseline.

    Args:
        kind: `ridge`, `boosting`, or `constant` (the mean number, the shares of the classes).
        data: Gives task and labels.
        seen: Scaled windows to learn from.
        seed: Seed of boosting.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    try:
        from sklearn import dummy, ensemble, linear_model
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError as exc:
        module = "scikit-learn"
        raise MissingExtraError(module) from exc
    is_number = data.labels is None
    if kind == "constant":
        model = dummy.DummyRegressor() if is_number else dummy.DummyClassifier(strategy="prior")
    elif kind == "ridge":
        chosen = linear_model.RidgeCV if is_number else linear_model.RidgeClassifierCV
        model = make_pipeline(StandardScaler(), chosen(alphas=_PENALTIES))
    else:
        chosen = (
            ensemble.HistGradientBoostingRegressor
            if is_number
            else ensemble.HistGradientBoostingClassifier
        )
        model = chosen(learning_rate=0.08, max_iter=150, early_stopping=False, random_state=seed)
    return _Scorer(model.fit(_features(seen.windows), seen.labels), data)


def _features(windows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Statistics of scaled windows, `[n, features]`."""
    from training.students.statistics import BASELINE, ArrayWindows  # it needs torch

    return ArrayWindows(windows).table(BASELINE)


def scale_for_baselines(
    data: DataSet, seen: WindowSet, *others: WindowSet
) -> tuple[WindowSet, ...]:
    """Scale windows as the graph of a student does that has learned from `seen`.

    Returns:
        `seen` and the others, scaled.
    """
    from training.scoring import scale_windows
    from training.students.conditions import fit_preprocessor

    scaler = fit_scaler(data.scaling, seen.windows)
    preprocessor = fit_preprocessor(data.scaling, seen.windows)
    return tuple(
        replace(part, windows=scale_windows(part.windows, scaler, preprocessor).numpy())
        for part in (seen, *others)
    )
