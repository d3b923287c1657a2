"""Classical baselines: ridge and gradient boosting on statistics of the window (scikit-learn).

`constant` says the same of every window: what a number must be better than to mean anything.

They get what the student gets, scaled as its graph scales, and nothing is tuned on the test set:
the penalty of ridge is chosen by leave-one-out on the windows it learns from, boosting has fixed
settings. They are measured as the students are, and are not exported.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.errors import MissingExtraError
from training.students.statistics import BASELINE, ArrayWindows
from training.teachers.prompts import MAX_RUL
from training.windows import WindowSet

__all__ = ["fit_classical"]

_PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0)


class _Scorer:
    """A fitted baseline: scaled windows to `[n]` cycles or `[n, classes]`."""

    def __init__(self, model: Any, classes: int | None) -> None:
        self._model = model
        self._classes = classes

    def __call__(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        features = ArrayWindows(windows).table(BASELINE)
        if self._classes is None:
            return np.asarray(np.clip(self._model.predict(features), 0, MAX_RUL), dtype=np.float32)
        if hasattr(self._model, "predict_proba"):
            known: Any = self._model.predict_proba(features)
        else:  # ridge gives distances; one-hot of the largest is all it claims
            known = np.eye(len(self._model.classes_))[
                self._model.decision_function(features).argmax(axis=1)
            ]
        scored = np.zeros((len(features), self._classes), dtype=np.float32)
        scored[:, self._model.classes_] = known
        return scored


def fit_classical(kind: str, data: WindowSet, num_answers: int | None, seed: int) -> _Scorer:
    """Fit a baseline.

    Args:
        kind: `ridge`, `boosting`, or `constant` (the mean RUL, the shares of the classes).
        data: scaled windows to learn from.
        num_answers: classes; None for RUL.
        seed: seed of boosting.

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
    is_rul = num_answers is None
    if kind == "constant":
        model = dummy.DummyRegressor() if is_rul else dummy.DummyClassifier(strategy="prior")
    elif kind == "ridge":
        chosen = linear_model.RidgeCV if is_rul else linear_model.RidgeClassifierCV
        model = make_pipeline(StandardScaler(), chosen(alphas=_PENALTIES))
    else:
        chosen = (
            ensemble.HistGradientBoostingRegressor
            if is_rul
            else ensemble.HistGradientBoostingClassifier
        )
        model = chosen(learning_rate=0.08, max_iter=150, early_stopping=False, random_state=seed)
    return _Scorer(model.fit(ArrayWindows(data.windows).table(BASELINE), data.labels), num_answers)
